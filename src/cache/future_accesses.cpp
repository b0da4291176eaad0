#include "cache/future_accesses.h"

#include "core/errors.h"

namespace moesim {

// A counting sort of the accesses by key; events are visited in order, so each group increases.
void FutureAccesses::finish() {
  use_offsets_.assign(keys_ + 1, 0);
  for (const ExpertKey key : accesses_) {
    if (index(key) >= keys_) throw InvariantError("a future access names an expert out of range");
    ++use_offsets_[index(key) + 1];
  }
  for (std::size_t key = 0; key < keys_; ++key) use_offsets_[key + 1] += use_offsets_[key];
  uses_.resize(accesses_.size());
  std::vector<std::size_t> next(use_offsets_.begin(), use_offsets_.end() - 1);
  for (std::size_t number = 0; number < events(); ++number) {
    for (const ExpertKey key : event(number)) {
      uses_[next[index(key)]++] = static_cast<std::uint32_t>(number);
    }
  }
}

}  // namespace moesim
