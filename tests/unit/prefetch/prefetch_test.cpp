// `none` and `oracle`.
#include "cache/future_accesses.h"
#include "core/units.h"
#include "prefetch/prefetcher.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

std::unique_ptr<Prefetcher> make_prefetcher(const Json& config, const PrefetchContext& context) {
  return Registry<Prefetcher>::instance().make(Section(config, "test", "/prefetch"), context);
}

ExpertKey key(std::uint32_t value) { return static_cast<ExpertKey>(value); }

FutureAccesses three_events() {
  FutureAccesses future(8);
  future.add_event(std::vector{key(0)});
  future.add_event(std::vector{key(5), key(4)});
  future.add_event(std::vector{key(1)});
  future.finish();
  return future;
}

std::vector<ExpertKey> predicted(Prefetcher& prefetcher, std::uint32_t event) {
  std::vector<ExpertKey> wanted;
  PrefetchQuery query;
  query.event = event;
  prefetcher.predict(query, wanted);
  return wanted;
}

}  // namespace

TEST_SUITE("prefetch") {
  TEST_CASE("none predicts nothing and says so") {
    const auto none = make_prefetcher({{"policy", "none"}}, {});
    CHECK(!none->active());
    CHECK(!none->looks_ahead());
    CHECK(none->max_outstanding_bytes() == 0);
    CHECK(predicted(*none, 0).empty());
  }

  TEST_CASE("the oracle names the coming visits, nearest first, up to the end") {
    const FutureAccesses future = three_events();
    PrefetchContext context;
    context.future = &future;
    const auto near = make_prefetcher({{"policy", "oracle"}}, context);
    CHECK(near->active());
    CHECK(near->looks_ahead());
    CHECK(near->max_outstanding_bytes() == 64 * kMiB);
    CHECK(near->predictor_bytes() == 0);
    CHECK(predicted(*near, 0) == std::vector{key(5), key(4)});
    CHECK(predicted(*near, 2).empty());
    const auto far = make_prefetcher(
        {{"policy", "oracle"}, {"distance", 2}, {"max_outstanding_mib", 0.5}}, context);
    CHECK(predicted(*far, 0) == std::vector{key(5), key(4), key(1)});
    CHECK(predicted(*far, 1) == std::vector{key(1)});
    CHECK(far->max_outstanding_bytes() == kMiB / 2);
  }

  TEST_CASE("the oracle needs a future and a distance") {
    const auto blind = make_prefetcher({{"policy", "oracle"}}, {});
    CHECK_THROWS_WITH_AS(predicted(*blind, 0),
                         "the oracle prefetcher needs the accesses of the whole run",
                         InvariantError);
    const std::string error = user_error_of([] {
      make_prefetcher({{"policy", "oracle"}, {"distance", 0}}, PrefetchContext{});
    });
    CHECK(contains(error, "test: /prefetch/distance: expected"));
  }
}

}  // namespace moesim::test
