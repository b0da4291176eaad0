// The experts of a real decode loop: where their bytes are, and how they get there. What deserves a
// place is the cache's to say; this class reads what it is told to and forgets what it is told to.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/task_costs.h"
#include "kernels/store/expert_arena.h"
#include "kernels/store/expert_store.h"
#include "kernels/store/mapped_store.h"
#include "kernels/store/store_reader.h"

namespace moesim {

struct RealExpertOptions {
  ExpertLayout layout = ExpertLayout::kSlices;  // which slices one read takes
  ReadPath path = ReadPath::kDirect;
  std::size_t slots = 1;  // experts that are held at once; of no account with kMmap
};

// What reading came to.
struct RealReadCounts {
  std::uint64_t reads = 0;
  std::uint64_t bytes = 0;    // of weights
  std::uint64_t padding = 0;  // what whole pages have beyond them
};

class RealExperts {
 public:
  // `reader`: null with ReadPath::kMmap. Throws UserError where the memory is not there.
  RealExperts(const ExpertStore& store, std::unique_ptr<StoreReader> reader,
              const RealExpertOptions& options);

  // Takes a place for it, where it has none.
  void place(ExpertKey key);
  // Begins to read these slices of an expert that has a place. Returns how many reads will be
  // reported under `tag`; 0: all of it is there already (page faults of `team`).
  std::size_t read(ExpertKey key, Slice first, Slice last, std::uint32_t tag, ThreadTeam& team);
  // The tag of a read that has ended; see StoreReader.
  std::optional<std::uint32_t> poll();
  std::uint32_t wait();
  // All of it, at once and waiting. REQUIRES: nothing is being read.
  void load(ExpertKey key, ThreadTeam& team);

  [[nodiscard]] bool has(ExpertKey key) const;
  [[nodiscard]] ExpertWeights weights(ExpertKey key) const;
  // Takes its place from it.
  void release(ExpertKey key);

  [[nodiscard]] const RealReadCounts& counts() const { return counts_; }
  // Summed over reads, the time that they held lanes.
  [[nodiscard]] std::chrono::nanoseconds lane_time() const;

 private:
  [[nodiscard]] std::uint64_t file_offset(ExpertKey key) const;
  // Of a record, page to page.
  struct Range {
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  Range count(Slice first, Slice last);
  void submit(ExpertKey key, Slice first, Slice last, std::uint32_t tag);
  std::size_t fault_in(ExpertKey key, Slice first, Slice last, ThreadTeam& team);

  const ExpertStore& store_;
  RealExpertOptions options_;
  std::unique_ptr<MappedStore> mapped_;  // with ReadPath::kMmap
  std::optional<ExpertArena> arena_;     // else
  std::vector<std::uint8_t> is_mapped_;  // [keys], with ReadPath::kMmap
  // Ends first: until then reads that are under way write to the arena.
  std::unique_ptr<StoreReader> reader_;
  RealReadCounts counts_;
  std::chrono::nanoseconds fault_time_{0};
};

}  // namespace moesim
