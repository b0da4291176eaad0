// What a cache refuses: policies that name what they must not, and calls that make no sense.
#include "cache/expert_cache.h"
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

CacheOptions options_for(std::size_t layers, std::size_t experts, std::uint64_t capacity) {
  CacheOptions options;
  options.shape = {100, layers, experts};
  options.capacity = capacity;
  return options;
}

ExpertKey key(std::uint32_t value) { return static_cast<ExpertKey>(value); }

// Names what it is told to, whatever that means.
class Dictated final : public EvictionPolicy {
 public:
  explicit Dictated(std::optional<ExpertKey> victim) : victim_(victim) {}
  void on_hit(ExpertKey, const CacheEvent&) override {}
  void on_insert(ExpertKey, const CacheEvent&) override {}
  void on_evict(ExpertKey) override {}
  std::optional<ExpertKey> victim(const CacheEvent&, bool) override { return victim_; }
  [[nodiscard]] double score(ExpertKey) const override { return 0; }

 private:
  std::optional<ExpertKey> victim_;
};

ExpertCache dictated(CacheOptions options, std::optional<ExpertKey> victim) {
  options.expert_size.assign(options.shape.layers * options.shape.experts, 1);
  return {options, std::make_unique<Dictated>(victim)};
}

}  // namespace

TEST_SUITE("expert cache defects") {
  TEST_CASE("a faulty policy is caught") {
    const auto complaint = [](std::optional<ExpertKey> victim, Overflow overflow) {
      CacheOptions options = options_for(2, 4, 1);
      options.overflow = overflow;
      ExpertCache cache = dictated(options, victim);
      cache.visit(0, LayerId{1}, expert_ids({0}));
      cache.visit(0, LayerId{0}, expert_ids({0}));
      try {
        cache.visit(1, LayerId{0}, expert_ids({1}));
      } catch (const InvariantError& error) {
        return std::string(error.what());
      }
      return std::string();
    };
    const std::string absent = "the eviction policy names an expert that is not resident";
    CHECK(complaint(key(2), Overflow::kTrim) == absent);
    CHECK(complaint(key(99), Overflow::kTrim) == absent);
    CHECK(complaint(key(4), Overflow::kTrim) ==
          "the eviction policy names an expert of another cache");
    CHECK(complaint(key(1), Overflow::kKeepEvent) ==
          "the eviction policy names an expert of the event that it must spare");
    CHECK(complaint(std::nullopt, Overflow::kKeepEvent) ==
          "the eviction policy names no victim although there are some");
    CHECK(complaint(key(0), Overflow::kTrim).empty());
  }

  TEST_CASE("a faulty policy is caught by a speculative read") {
    ExpertCache cache = dictated(options_for(1, 4, 2), std::nullopt);
    cache.visit(0, LayerId{0}, expert_ids({0}));
    cache.visit(0, LayerId{0}, expert_ids({1}));
    std::span<const ExpertKey> evicted;
    CHECK_THROWS_WITH_AS(cache.begin_read(key(2), evicted),
                         "the eviction policy names no victim although there are some",
                         InvariantError);
  }

  TEST_CASE("a visit that makes no sense is a defect") {
    ExpertCache cache = make_cache(options_for(1, 4, 2), {{"policy", "lru"}});
    const std::string named = "a visit names an expert twice or one out of range";
    CHECK_THROWS_WITH_AS(cache.visit(0, LayerId{0}, expert_ids({0, 0})), named.c_str(),
                         InvariantError);
    CHECK_THROWS_WITH_AS(cache.visit(0, LayerId{0}, expert_ids({4})), named.c_str(),
                         InvariantError);
    const std::string shape = "a visit does not fit the shape of the cache";
    CHECK_THROWS_WITH_AS(cache.visit(0, LayerId{0}, expert_ids({0, 1, 2, 3, 0})), shape.c_str(),
                         InvariantError);
    CHECK_THROWS_WITH_AS(cache.visit(0, LayerId{1}, {}), shape.c_str(), InvariantError);
  }

  TEST_CASE("sizes must fit the shape") {
    CacheOptions options = options_for(1, 4, 2);
    options.expert_size = {1, 1, 1};
    CHECK_THROWS_WITH_AS(make_cache(options, {{"policy", "lru"}}),
                         "a cache needs one size > 0 per expert", InvariantError);
    options.expert_size = {1, 1, 0, 1};
    CHECK_THROWS_WITH_AS(make_cache(options, {{"policy", "lru"}}),
                         "a cache needs one size > 0 per expert", InvariantError);
  }
}

}  // namespace moesim::test
