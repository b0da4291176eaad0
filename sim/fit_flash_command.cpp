// sim fit-flash: the flash values of a device file out of a measured size x lanes table.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "calibration/flash_fit.h"
#include "command.h"
#include "config/json_file.h"
#include "core/units.h"

namespace moesim::cli {
namespace {

struct FitFlashOptions {
  std::vector<std::string> tables;
  double copy_gbps = 0;
  bool fit_copy = false;
  double bounce_gbps = 0;
  bool fit_bounce = false;
  std::string engine_rows;
  double rows_weight = 1;
  bool json = false;
};

double mib_per_s(double bytes_per_s) { return bytes_per_s / static_cast<double>(kMiB); }

double kib(std::uint64_t bytes) { return static_cast<double>(bytes) / 1024.0; }

Json engine_json(const FlashFit& fit) {
  Json rows = Json::array();
  for (const EngineFitRow& row : fit.engine_rows) {
    rows.push_back({{"name", row.measured.name},
                    {"lanes", row.measured.lanes},
                    {"measured_io_ms", row.measured.io_ms},
                    {"simulated_io_ms", row.simulated_ms},
                    {"error_pct", 100.0 * row.error}});
  }
  return {{"rms_pct", 100.0 * fit.engine_rms}, {"rows", std::move(rows)}};
}

// Bounce and engine rows only where they take part.
Json json_of(const FlashFit& fit) {
  Json rows = Json::array();
  for (const FlashFitRow& row : fit.rows) {
    rows.push_back({{"read_kib", kib(row.measured.read_bytes)},
                    {"lanes", row.measured.lanes},
                    {"measured_mib_per_s", mib_per_s(row.measured.bytes_per_s)},
                    {"simulated_mib_per_s", mib_per_s(row.simulated_bytes_per_s)},
                    {"error_pct", 100.0 * row.error}});
  }
  Json json = {{"flash",
                {{"bw_gbps", fit.bw_gbps},
                 {"dev_cmd_us", fit.dev_cmd_us},
                 {"host_delay_us", fit.host_delay_us},
                 {"copy_gbps", fit.copy_gbps}}},
               {"rms_pct", 100.0 * fit.rms},
               {"rows", std::move(rows)}};
  if (fit.bounce_gbps > 0) json["flash"]["bounce_gbps"] = fit.bounce_gbps;
  if (!fit.engine_rows.empty()) json["engine_rows"] = engine_json(fit);
  return json;
}

void print_engine_rows(const FlashFit& fit) {
  if (fit.engine_rows.empty()) return;
  fmt::print("\n{:<15} {:>5} {:>15} {:>16} {:>8}\n", "engine row", "lanes", "measured io, ms",
             "simulated, ms", "error, %");
  for (const EngineFitRow& row : fit.engine_rows) {
    fmt::print("{:<15} {:>5} {:>15.1f} {:>16.1f} {:>+8.1f}\n", row.measured.name,
               row.measured.lanes, row.measured.io_ms, row.simulated_ms, 100.0 * row.error);
  }
  fmt::print("\nrms of log(simulated / measured) over {} engine rows: {:.2f} %\n",
             fit.engine_rows.size(), 100.0 * fit.engine_rms);
}

void print_text(const FlashFit& fit, bool copy_fitted, bool bounce_fitted) {
  fmt::print("host_delay_us  {:.1f}\n", fit.host_delay_us);
  fmt::print("dev_cmd_us     {:.1f}\n", fit.dev_cmd_us);
  fmt::print("bw_gbps        {:.3f}\n", fit.bw_gbps);
  fmt::print("copy_gbps      {:.3f}  ({})\n", fit.copy_gbps,
             copy_fitted         ? "fitted"
             : fit.copy_gbps > 0 ? "given"
                                 : "given: no copy");
  if (fit.bounce_gbps > 0) {
    fmt::print("bounce_gbps    {:.3f}  ({})\n", fit.bounce_gbps,
               bounce_fitted ? "fitted" : "given");
  }
  fmt::print("\n");
  fmt::print("{:>9} {:>5} {:>15} {:>16} {:>8}\n", "read, KiB", "lanes", "measured, MiB/s",
             "simulated, MiB/s", "error, %");
  for (const FlashFitRow& row : fit.rows) {
    fmt::print("{:>9g} {:>5} {:>15.1f} {:>16.1f} {:>+8.1f}\n", kib(row.measured.read_bytes),
               row.measured.lanes, mib_per_s(row.measured.bytes_per_s),
               mib_per_s(row.simulated_bytes_per_s), 100.0 * row.error);
  }
  fmt::print("\nrms of log(simulated / measured) over {} rows: {:.2f} %\n", fit.rows.size(),
             100.0 * fit.rms);
  print_engine_rows(fit);
}

FlashTable read_tables(const std::vector<std::string>& files) {
  FlashTable all;
  for (const std::string& file : files) {
    const FlashTable table = read_flash_table(file, file);
    all.insert(all.end(), table.begin(), table.end());
  }
  return all;
}

void fit_flash_table(const FitFlashOptions& options) {
  FlashFitOptions fit_options;
  fit_options.copy_gbps = options.copy_gbps;
  if (options.fit_copy) fit_options.copy_gbps.reset();
  fit_options.bounce_gbps = options.bounce_gbps;
  if (options.fit_bounce) fit_options.bounce_gbps.reset();
  fit_options.rows_weight = options.rows_weight;
  if (!options.engine_rows.empty()) {
    fit_options.engine_rows = read_engine_rows(options.engine_rows, options.engine_rows);
  }
  const FlashFit fit = fit_flash(read_tables(options.tables), fit_options,
                                 fmt::format("{}", fmt::join(options.tables, ", ")));
  if (options.json) {
    fmt::print("{}\n", json_of(fit).dump(2));
  } else {
    print_text(fit, options.fit_copy, options.fit_bounce);
  }
}

}  // namespace

void add_fit_flash_command(CLI::App& app) {
  auto options = std::make_shared<FitFlashOptions>();
  CLI::App* command = app.add_subcommand(
      "fit-flash", "fit a device's flash values to measured throughput by read size and lanes");
  command
      ->add_option("--table", options->tables,
                   "CSV with the columns read_kib, lanes, mib_per_s; may be given several times")
      ->required()
      ->allow_extra_args(false);
  CLI::Option* copy =
      command->add_option("--copy-gbps", options->copy_gbps,
                          "copy rate of a lane, held fixed; 0 (the default) means no copy");
  command->add_flag("--fit-copy", options->fit_copy, "fit the copy rate as well")->excludes(copy);
  command->add_option("--engine-rows", options->engine_rows,
                      "JSON array of times that an engine spent on reading, fitted to as well");
  command->add_option("--rows-weight", options->rows_weight,
                      "weight of an engine row; a cell of a table weighs 1 (the default: 1)");
  CLI::Option* bounce =
      command->add_option("--bounce-gbps", options->bounce_gbps,
                          "rate of the bounce copy of engine rows, held fixed; 0 (the default) "
                          "means no copy");
  command->add_flag("--fit-bounce", options->fit_bounce, "fit the rate of the bounce copy as well")
      ->excludes(bounce);
  command->add_flag("--json", options->json, "print JSON instead of text");
  command->callback([options] { fit_flash_table(*options); });
}

}  // namespace moesim::cli
