// sim fit-flash: the flash values of a device file out of a measured size x lanes table.
#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "calibration/flash_fit.h"
#include "command.h"
#include "config/json_file.h"
#include "core/units.h"

namespace moesim::cli {
namespace {

struct FitFlashOptions {
  std::string table;
  double copy_gbps = 0;
  bool fit_copy = false;
  bool json = false;
};

double mib_per_s(double bytes_per_s) { return bytes_per_s / static_cast<double>(kMiB); }

double kib(std::uint64_t bytes) { return static_cast<double>(bytes) / 1024.0; }

Json json_of(const FlashFit& fit) {
  Json rows = Json::array();
  for (const FlashFitRow& row : fit.rows) {
    rows.push_back({{"read_kib", kib(row.measured.read_bytes)},
                    {"lanes", row.measured.lanes},
                    {"measured_mib_per_s", mib_per_s(row.measured.bytes_per_s)},
                    {"simulated_mib_per_s", mib_per_s(row.simulated_bytes_per_s)},
                    {"error_pct", 100.0 * row.error}});
  }
  return {{"flash",
           {{"bw_gbps", fit.bw_gbps},
            {"dev_cmd_us", fit.dev_cmd_us},
            {"host_delay_us", fit.host_delay_us},
            {"copy_gbps", fit.copy_gbps}}},
          {"rms_pct", 100.0 * fit.rms},
          {"rows", std::move(rows)}};
}

void print_text(const FlashFit& fit, bool copy_fitted) {
  fmt::print("host_delay_us  {:.1f}\n", fit.host_delay_us);
  fmt::print("dev_cmd_us     {:.1f}\n", fit.dev_cmd_us);
  fmt::print("bw_gbps        {:.3f}\n", fit.bw_gbps);
  fmt::print("copy_gbps      {:.3f}  ({})\n\n", fit.copy_gbps,
             copy_fitted         ? "fitted"
             : fit.copy_gbps > 0 ? "given"
                                 : "given: no copy");
  fmt::print("{:>9} {:>5} {:>15} {:>16} {:>8}\n", "read, KiB", "lanes", "measured, MiB/s",
             "simulated, MiB/s", "error, %");
  for (const FlashFitRow& row : fit.rows) {
    fmt::print("{:>9g} {:>5} {:>15.1f} {:>16.1f} {:>+8.1f}\n", kib(row.measured.read_bytes),
               row.measured.lanes, mib_per_s(row.measured.bytes_per_s),
               mib_per_s(row.simulated_bytes_per_s), 100.0 * row.error);
  }
  fmt::print("\nrms of log(simulated / measured) over {} rows: {:.2f} %\n", fit.rows.size(),
             100.0 * fit.rms);
}

void fit_flash_table(const FitFlashOptions& options) {
  FlashFitOptions fit_options;
  fit_options.copy_gbps = options.copy_gbps;
  if (options.fit_copy) fit_options.copy_gbps.reset();
  const FlashFit fit =
      fit_flash(read_flash_table(options.table, options.table), fit_options, options.table);
  if (options.json) {
    fmt::print("{}\n", json_of(fit).dump(2));
  } else {
    print_text(fit, options.fit_copy);
  }
}

}  // namespace

void add_fit_flash_command(CLI::App& app) {
  auto options = std::make_shared<FitFlashOptions>();
  CLI::App* command = app.add_subcommand(
      "fit-flash", "fit a device's flash values to measured throughput by read size and lanes");
  command->add_option("--table", options->table, "CSV with the columns read_kib, lanes, mib_per_s")
      ->required();
  CLI::Option* copy =
      command->add_option("--copy-gbps", options->copy_gbps,
                          "copy rate of a lane, held fixed; 0 (the default) means no copy");
  command->add_flag("--fit-copy", options->fit_copy, "fit the copy rate as well")->excludes(copy);
  command->add_flag("--json", options->json, "print JSON instead of text");
  command->callback([options] { fit_flash_table(*options); });
}

}  // namespace moesim::cli
