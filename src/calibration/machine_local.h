// The machine that this program runs on, measured for real.
//
// Weights lie in a buffer several times as large as the last-level cache, and every product and
// streaming read takes some far from the last ones, so that they come from memory as they do in
// decoding (weight_places.h). Reads are kept under way as a decode loop does that has more misses
// than lanes. Page-cache and device are told apart by direct reads; what a hypervisor or the
// device's own cache holds is not seen from here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <vector>

#include "calibration/core_split.h"
#include "calibration/layer_decision.h"
#include "calibration/machine_probe.h"
#include "calibration/machine_scratch.h"
#include "kernels/aligned_floats.h"
#include "kernels/store/page_memory.h"
#include "kernels/store/store_reader.h"
#include "kernels/thread_team.h"

namespace moesim {

struct LocalMachineOptions {
  std::filesystem::path folder;  // of the scratch file
  std::uint64_t disk_bytes = 0;  // of it, at most
  std::uint64_t memory_bytes = 0;
  bool direct = true;
};

class LocalMachine : public MachineProbe {
 public:
  // UserError where memory or disk do not suffice, the folder is none that can be written, or its
  // file system takes no direct reads and `direct` asks for them; nothing was measured then.
  // REQUIRES: kernel_support().available.
  explicit LocalMachine(const LocalMachineOptions& options);

  double now_s() override;
  MachineFacts facts() override { return facts_; }
  double stream_s(std::size_t threads) override;
  double product_s(WeightFormat format, std::size_t rows, std::size_t columns,
                   std::size_t threads) override;
  double expert_s(WeightFormat format, std::size_t hidden, std::size_t intermediate,
                  std::size_t threads) override;
  double barrier_s(std::size_t threads) override;
  double operators_s(std::size_t hidden, std::size_t outputs) override;
  std::uint64_t write_scratch(double budget_s, const std::function<void()>& tick) override;
  ReadSample read(const ReadCell& cell, double slice_s) override;
  FaultSample fault(std::uint64_t bytes) override;
  double admit_s(std::size_t pages) override;

 private:
  // Where reads of a size go: every block of the file once, in an order without pattern, and again.
  struct Blocks {
    std::vector<std::uint32_t> order;
    std::size_t next = 0;
  };

  ThreadTeam& team(std::size_t threads);
  void wake(ThreadTeam& workers);
  const std::byte* next_weights(std::size_t bytes);
  std::unique_ptr<StoreReader> reader(const ReadCell& cell, const CoreSplit& cores) const;
  std::uint64_t next_offset(const ReadCell& cell);
  std::size_t blocks_of(std::uint64_t read_bytes) const;

  LocalMachineOptions options_;
  MachineFacts facts_;
  std::map<std::size_t, std::unique_ptr<ThreadTeam>> teams_;
  PageMemory weights_;
  std::size_t next_place_ = 0;
  AlignedFloats x_;
  AlignedFloats y_;
  AlignedFloats scratch_;
  std::unique_ptr<LayerDecision> decision_;  // made when it is first measured
  ScratchFile file_;
  std::unique_ptr<PageMemory> targets_;
  std::map<std::uint64_t, Blocks> blocks_;
  std::uint64_t next_fault_ = 0;
};

}  // namespace moesim
