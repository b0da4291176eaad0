// A predictor that is always right: it names the experts of the coming layer visits, nearest first.
// The upper bound for every predictor that looks as far ahead.
#include <algorithm>

#include "cache/future_accesses.h"
#include "core/errors.h"
#include "core/units.h"
#include "prefetch/prefetcher.h"

namespace moesim {
namespace {

constexpr std::uint64_t kMaxDistance = 1U << 20;
constexpr double kMaxOutstandingMib = 1 << 20;

class Oracle final : public Prefetcher {
 public:
  Oracle(Section& config, const PrefetchContext& context)
      : future_(context.future),
        distance_(config.integer("distance", 1, kMaxDistance)),
        max_outstanding_bytes_(static_cast<std::uint64_t>(
            config.number("max_outstanding_mib", {0.0, kMaxOutstandingMib}) *
            static_cast<double>(kMiB))) {}

  void predict(const PrefetchQuery& query, std::vector<ExpertKey>& wanted) override {
    if (future_ == nullptr) {
      throw InvariantError("the oracle prefetcher needs the accesses of the whole run");
    }
    const std::uint64_t end =
        std::min<std::uint64_t>(query.event + distance_ + 1, future_->events());
    for (std::uint64_t number = std::uint64_t{query.event} + 1; number < end; ++number) {
      const auto experts = future_->event(number);
      wanted.insert(wanted.end(), experts.begin(), experts.end());
    }
  }

  [[nodiscard]] std::uint64_t max_outstanding_bytes() const override {
    return max_outstanding_bytes_;
  }
  [[nodiscard]] bool looks_ahead() const override { return true; }

 private:
  const FutureAccesses* future_;
  std::uint64_t distance_;
  std::uint64_t max_outstanding_bytes_;
};

MOESIM_REGISTER(Prefetcher, Oracle, "oracle",
                About("always right about the coming layer visits", "upper bound of any predictor"),
                {"distance", 1, "layer visits ahead", "integer", "[1, 1048576]", "own"},
                {"max_outstanding_mib", 64, "speculative reads that may be under way at once",
                 "number", "[0, 1048576]", "own"});

}  // namespace
}  // namespace moesim
