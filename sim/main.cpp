// The program `sim`: picks the command, turns errors into one line and an exit status.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>

#include "command.h"
#include "core/errors.h"
#include "core/version.h"

namespace {

constexpr int kUserMistake = 2;
constexpr int kDefect = 70;

void print_error(std::string message) {
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';  // one line, whatever it quotes
  }
  std::fprintf(stderr, "sim: error: %s\n", message.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("moesim: simulates memory-constrained decoding of mixture-of-experts models", "sim");
  app.set_version_flag("--version", std::string("sim ") + moesim::program_version() + " (" +
                                        moesim::program_commit() + ")");
  moesim::cli::add_run_command(app);
  moesim::cli::add_sweep_command(app);
  moesim::cli::add_compare_command(app);
  moesim::cli::add_list_command(app);
  moesim::cli::add_graph_command(app);
  moesim::cli::add_trace_command(app);
  moesim::cli::add_model_command(app);
  moesim::cli::add_fit_flash_command(app);
  moesim::cli::add_compress_command(app);
  moesim::cli::add_calibrate_command(app);
  moesim::cli::add_validate_command(app);
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
    if (!std::cout.flush() || std::fflush(stdout) != 0) {
      throw moesim::UserError("standard output: cannot be written");
    }
  } catch (const CLI::Success& success) {  // --help
    return app.exit(success);
  } catch (const CLI::ParseError& error) {
    print_error(std::string(error.what()) + " (see sim --help)");
    return kUserMistake;
  } catch (const moesim::UserError& error) {
    print_error(error.what());
    return kUserMistake;
  } catch (const std::exception& error) {
    print_error(std::string("defect of the program: ") + error.what());
    return kDefect;
  }
  return 0;
}
