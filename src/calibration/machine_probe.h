// A machine as it is measured: one repetition of each measurement. The real one is
// calibration/machine_local.h; tests have one that answers from a formula and has its own clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "kernels/weight_matrix.h"

namespace moesim {

struct MachineFacts {
  std::size_t cores = 1;             // that this process may use
  std::string simd;                  // the vector instructions of the kernels
  double available_mib = 0;          // of memory, before anything was measured
  double page_kib = 4;               // of the system
  std::uint64_t stream_bytes = 0;    // of one streaming read
  std::uint64_t largest_matrix = 0;  // bytes of weights
  bool direct = true;                // reads go past the page cache
  bool uring = false;                // reads can be queued by io_uring
  std::string no_uring;              // why not
};

enum class ReadMethod : std::uint8_t { kLanes, kUring };

struct ReadCell {
  ReadMethod method = ReadMethod::kLanes;
  bool sequential = false;
  std::uint64_t read_bytes = 0;
  std::size_t depth = 1;  // blocking lanes, or commands under way

  bool operator==(const ReadCell&) const = default;
};

struct ReadSample {
  double bytes_per_s = 0;
  std::vector<double> read_s;  // of single reads; empty where more than one is under way
};

struct FaultSample {
  std::uint64_t bytes = 0;
  std::uint64_t faults = 0;  // major ones
  double seconds = 0;
};

class MachineProbe {
 public:
  MachineProbe() = default;
  virtual ~MachineProbe() = default;
  MachineProbe(const MachineProbe&) = delete;
  MachineProbe& operator=(const MachineProbe&) = delete;

  // Seconds of a clock that does not go back; its beginning means nothing.
  virtual double now_s() = 0;
  virtual MachineFacts facts() = 0;

  // Seconds of one streaming read of facts().stream_bytes.
  virtual double stream_s(std::size_t threads) = 0;
  // Seconds of one product with weights that were not touched lately.
  virtual double product_s(WeightFormat format, std::size_t rows, std::size_t columns,
                           std::size_t threads) = 0;
  // The same of a SwiGLU expert.
  virtual double expert_s(WeightFormat format, std::size_t hidden, std::size_t intermediate,
                          std::size_t threads) = 0;
  // Seconds of an empty job of a team.
  virtual double barrier_s(std::size_t threads) = 0;
  // Seconds of the norms, additions and the weighted sum of `outputs` experts of one layer, and of
  // deciding which experts run, with cold caches.
  virtual double operators_s(std::size_t hidden, std::size_t outputs) = 0;

  // Writes what is read below, at most for so long; returns its bytes. UserError where it cannot.
  virtual std::uint64_t write_scratch(double budget_s, const std::function<void()>& tick) = 0;
  // Reads for about `slice_s`. REQUIRES, as what follows: write_scratch() before.
  virtual ReadSample read(const ReadCell& cell, double slice_s) = 0;
  // Touches so many bytes of a mapping that no cache holds, one thread.
  virtual FaultSample fault(std::uint64_t bytes) = 0;
  // Seconds per page of the first touch of fresh memory.
  virtual double admit_s(std::size_t pages) = 0;
};

}  // namespace moesim
