// What policies share that rank residents by when they were loaded, whatever happens afterwards.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/eviction/key_lists.h"

namespace moesim {

class LoadOrder : public EvictionPolicy {
 public:
  explicit LoadOrder(const EvictionContext& context)
      : queues_(context, context.partitions),
        entered_(context.shape.layers * context.shape.experts, 0) {}

  void on_hit(ExpertKey /*key*/, const CacheEvent& /*event*/) override {}
  void on_insert(ExpertKey key, const CacheEvent& event) override {
    queues_.push(event.partition(), key);
    entered_[index(key)] = ++inserts_;
  }
  void on_evict(ExpertKey key) override { queues_.erase(key); }

 protected:
  // The residents of each partition, oldest load first.
  [[nodiscard]] const KeyLists& queues() const { return queues_; }
  // Loads since that of a resident, of any expert, its own included: at least 1.
  [[nodiscard]] double loads_since(ExpertKey key) const {
    return static_cast<double>(1 + inserts_ - entered_[index(key)]);
  }

 private:
  KeyLists queues_;                     // one per partition
  std::vector<std::uint64_t> entered_;  // [layers * experts], number of its last load
  std::uint64_t inserts_ = 0;
};

}  // namespace moesim
