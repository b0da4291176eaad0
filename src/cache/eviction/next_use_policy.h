// What the offline policies share: residents ranked by their next use, the farthest first, and
// among equals the highest id. When the accesses of a visit are judged one by one, the order within
// the visit counts too; it is the order in which the future names them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "cache/eviction/ranked_residents.h"
#include "cache/future_accesses.h"

namespace moesim {

class NextUsePolicy : public EvictionPolicy {
 public:
  // The context may lack the future as long as no event begins: looks_ahead() can be asked first.
  explicit NextUsePolicy(const EvictionContext& context);

  // Throws InvariantError without a future, or past its end.
  void begin_event(const CacheEvent& event) override;
  void on_hit(ExpertKey key, const CacheEvent& event) override { use(key, event); }
  void on_insert(ExpertKey key, const CacheEvent& event) override { use(key, event); }
  void on_evict(ExpertKey key) override { residents_.erase(key); }
  std::optional<ExpertKey> victim(const CacheEvent& event, bool spare_members) override {
    return residents_.first(event, spare_members);
  }
  // The number of the event of the next use; 2^32 - 1 where there is none.
  [[nodiscard]] double score(ExpertKey key) const override { return residents_.priority(key).next; }
  [[nodiscard]] bool looks_ahead() const override { return true; }
  [[nodiscard]] std::string caveat() const override;

 private:
  struct NextUseOf {
    std::uint32_t next = 0;
    std::uint32_t place = 0;  // within event `next`; 0 where it does not count
    ExpertKey key{};
  };
  struct Farthest {
    bool operator()(const NextUseOf& a, const NextUseOf& b) const;
  };

  void use(ExpertKey key, const CacheEvent& event);
  void rank(ExpertKey key);

  const FutureAccesses* future_;
  std::optional<NextUse> next_use_;
  RankedResidents<NextUseOf, Farthest> residents_;
  bool equal_sizes_;
  bool one_by_one_ = false;  // the last visit was judged so
};

}  // namespace moesim
