// One file per command; each adds itself to the command line and says what runs when it is chosen.
// Results go to stdout, everything else to stderr.
#pragma once

#include <CLI/CLI.hpp>

namespace moesim::cli {

// Each adds its subcommand to `app`. The callback throws UserError for anything the user can mend.
void add_run_command(CLI::App& app);
void add_sweep_command(CLI::App& app);
void add_compare_command(CLI::App& app);
void add_list_command(CLI::App& app);
void add_trace_command(CLI::App& app);         // inspect and synth
void add_trace_import_command(CLI::App& app);  // `app` is the trace subcommand
void add_model_command(CLI::App& app);
void add_graph_command(CLI::App& app);
void add_fit_flash_command(CLI::App& app);
void add_compress_command(CLI::App& app);
void add_calibrate_command(CLI::App& app);
void add_validate_command(CLI::App& app);

}  // namespace moesim::cli
