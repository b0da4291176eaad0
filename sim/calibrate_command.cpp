// sim calibrate: measures this machine and writes its device file.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <memory>
#include <string>

#include "api/calibrate.h"
#include "command.h"

namespace moesim::cli {
namespace {

// A line that is written anew on a terminal; elsewhere a line per phase.
class ProgressLine {
 public:
  ProgressLine() : on_terminal_(isatty(STDERR_FILENO) != 0) {}
  ~ProgressLine() { clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  void show(const CalibrationProgress& progress) {
    const std::string line = fmt::format("calibrate: {}, {:.0f} %, {:.0f} s left", progress.phase,
                                         100 * progress.done, std::ceil(progress.left_s));
    if (on_terminal_) {
      if (line == shown_) return;
      fmt::print(stderr, "\r\x1b[K{}", line);
      std::fflush(stderr);
    } else if (progress.phase != phase_) {
      fmt::print(stderr, "{}\n", line);
    }
    shown_ = line;
    phase_ = progress.phase;
  }

 private:
  void clear() const {
    if (on_terminal_ && !shown_.empty()) std::fputs("\r\x1b[K", stderr);
  }

  bool on_terminal_;
  std::string shown_;
  std::string phase_;
};

std::string today() {
  return fmt::format(
      "{:%Y-%m-%d}",
      fmt::localtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())));
}

void print_table(const CalibratedDevice& device) {
  fmt::print("{:<36} {:>26} {:>9}\n", "", "value", "spread, %");
  for (const CalibrationLine& line : device.lines) {
    const std::string spread = line.spread ? fmt::format("{:.1f}", 100 * *line.spread) : "";
    fmt::print("{:<36} {:>26} {:>9}\n", line.what, line.value, spread);
  }
  for (const std::string& note : device.notes) fmt::print("note: {}\n", note);
}

void run_calibration(CalibrateOptions options) {
  options.date = today();
  CalibratedDevice device;
  {
    ProgressLine line;
    device = calibrate(options, [&line](const CalibrationProgress& now) { line.show(now); });
  }
  print_table(device);
  fmt::print("written: {}\n", options.out.string());
}

}  // namespace

void add_calibrate_command(CLI::App& app) {
  auto options = std::make_shared<CalibrateOptions>();
  CLI::App* command = app.add_subcommand("calibrate", "measure this machine as a device file");
  command->add_option("--out", options->out, "device file to write")->required();
  command->add_option("--dir", options->dir,
                      "folder for the file that is read, on the disk to measure (the default: that "
                      "of --out); nothing is left there");
  command->add_flag("--quick", options->quick, "fewer sizes, less than a minute");
  command->add_option("--name", options->name, "name of the device (the default: this-machine)");
  command->add_flag("--buffered", options->buffered,
                    "read through the page cache, where the file system takes no direct reads");
  command->add_option("--budget-s", options->budget_s,
                      "seconds of measuring (the default: 200, with --quick 40)");
  command->add_option("--max-disk-gib", options->max_disk_gib,
                      "size of the file that is read (the default: 1, with --quick 0.25)");
  command->add_option("--max-memory-gib", options->max_memory_gib,
                      "memory that may be used (the default: 4)");
  command->callback([options] { run_calibration(*options); });
}

}  // namespace moesim::cli
