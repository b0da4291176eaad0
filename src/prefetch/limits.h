// The parameters that most predictors share, and the base class that holds them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "core/units.h"
#include "prefetch/prefetcher.h"

namespace moesim {

inline constexpr double kMaxOutstandingMib = 1 << 20;

inline Parameter distance_parameter(const std::string& range = "[1, L]") {
  return {"distance", 1,     "layer visits ahead; the next token's first layers follow the last",
          "integer",  range, "own"};
}

inline Parameter outstanding_parameter() {
  return {"max_outstanding_mib", 64,   "speculative reads that may be under way at once", "number",
          "[0, 1048576]",        "own"};
}

inline Parameter count_parameter(
    const std::string& text = "experts named for a visit; null: k, times the sequences of a pass") {
  return {"count", nullptr, text, "integer", "[1, E]", "own"};
}

// `count`: null stands for `otherwise`, or 1.
inline std::size_t read_count(Section& config, const PrefetchContext& context,
                              std::size_t otherwise) {
  const std::uint64_t most = std::max<std::size_t>(context.shape.experts, 1);
  if (const auto count = config.optional_integer("count", 1, most)) return *count;
  return std::max<std::size_t>(otherwise, 1);
}
// Experts that a visit runs as a rule: k, or those of all tokens of a pass.
inline std::size_t usual_count(const PrefetchContext& context) {
  return std::max(context.k, context.visit_experts);
}

class LimitedPrefetcher : public Prefetcher {
 public:
  // Reads `max_outstanding_mib`, and `distance` unless `max_distance` is 1.
  LimitedPrefetcher(Section& config, std::uint64_t max_distance)
      : max_outstanding_bytes_(static_cast<std::uint64_t>(
            config.number("max_outstanding_mib", {0.0, kMaxOutstandingMib}) *
            static_cast<double>(kMiB))) {
    if (config.has("distance")) {
      distance_ = static_cast<std::uint32_t>(
          config.integer("distance", 1, std::max<std::uint64_t>(max_distance, 1)));
    }
  }

  [[nodiscard]] std::uint32_t distance() const override { return distance_; }
  [[nodiscard]] std::uint64_t max_outstanding_bytes() const override {
    return max_outstanding_bytes_;
  }

 private:
  std::uint64_t max_outstanding_bytes_;
  std::uint32_t distance_ = 1;
};

}  // namespace moesim
