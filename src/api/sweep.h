// `sim sweep` as a class: the grid of all values, one result line a point, in parallel, crash-safe
// and resumable. docs/sweeps.md says what a user may rely on.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "api/run.h"
#include "api/sweep_grid.h"
#include "report/sweep_file.h"
#include "report/sweep_report.h"

namespace moesim {

struct SweepOptions {
  std::string config;
  std::vector<std::string> overrides;  // as sim run --set, before the point's own
  std::vector<std::string> vary;       // as read_axis() takes them
  std::filesystem::path out;
  bool resume = false;
  std::size_t jobs = 1;  // points at a time
};

class Sweep {
 public:
  // Checks every point, then opens the file and finds what is there. Throws UserError: a bad axis,
  // the first point that cannot be run (nothing is written then), a file that exists (without
  // resume), that is in use, or that holds a line of another configuration.
  explicit Sweep(const SweepOptions& options);
  ~Sweep();

  [[nodiscard]] std::size_t points() const;
  // Of the points, those whose lines were in the file already.
  [[nodiscard]] std::size_t found() const;
  // Runs what is missing and appends one line a point. `progress`, called by any thread but one at
  // a time, is told after each point how many of the missing ones are done.
  void run(const std::function<void(std::size_t)>& progress);
  // One row a point, in the order of the grid. REQUIRES: run() has returned.
  [[nodiscard]] const std::vector<SweepRow>& rows() const;
  // While it is held nothing is written.
  [[nodiscard]] std::unique_lock<std::mutex> pause();

 private:
  class Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace moesim
