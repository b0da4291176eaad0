// Which options of sim compress are out of range, before anything is read.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "api/compress.h"

namespace moesim {
namespace {

// Each multiplies the states of the programme; more would take minutes and gigabytes.
constexpr std::uint64_t kMostCountStates = 256;

void check_bit_set(const std::vector<std::uint32_t>& bit_set) {
  const bool increasing =
      std::adjacent_find(bit_set.begin(), bit_set.end(), std::greater_equal<>()) == bit_set.end();
  if (!bit_set.empty() && increasing && bit_set.front() >= 1 && bit_set.back() <= 32) return;
  throw user_error("--bit-set", fmt::format("expected increasing integers in [1, 32], got {}",
                                            fmt::join(bit_set, ",")));
}

void check_mean_bits(const CompressOptions& options) {
  const std::uint32_t low = options.bit_set.front();
  const std::uint32_t high = options.bit_set.back();
  if (options.mean_bits >= low && options.mean_bits <= high) return;
  throw user_error("--bits", fmt::format("expected a number in [{}, {}], the range of the bit set, "
                                         "got {}",
                                         low, high, options.mean_bits));
}

void check_counts(const CompressOptions& options) {
  const auto& counts = options.min_counts;
  if (counts.empty()) return;
  if (counts.size() != options.bit_set.size()) {
    throw user_error("--min-counts",
                     fmt::format("expected {} integers, one for each bit-width, got {}",
                                 options.bit_set.size(), counts.size()));
  }
  std::uint64_t states = 1;
  for (const std::uint32_t count : counts) {
    states = std::min<std::uint64_t>(kMostCountStates + 1, states * (std::uint64_t{count} + 1));
  }
  if (states > kMostCountStates) {
    throw user_error("--min-counts",
                     fmt::format("expected a product of (count + 1) of at most {}, got {}",
                                 kMostCountStates, fmt::join(counts, ",")));
  }
}

void check_numbers(const CompressOptions& options) {
  for (const double exponent : options.exponents) {
    if (exponent >= 0 && exponent <= 16) continue;
    throw user_error("--exponents",
                     fmt::format("expected three numbers in [0, 16], got {}", exponent));
  }
  const std::pair<const char*, double> bits[] = {{"--overhead", options.size.overhead_bits},
                                                 {"--rest-bits", options.size.rest_bits}};
  for (const auto& [name, value] : bits) {
    const double most = std::string(name) == "--overhead" ? 16 : 32;
    if (value >= 0 && value <= most) continue;
    throw user_error(name, fmt::format("expected a number in [0, {}], got {}", most, value));
  }
}

}  // namespace

void check_options(const CompressOptions& options) {
  check_bit_set(options.bit_set);
  check_mean_bits(options);
  check_counts(options);
  check_numbers(options);
}

}  // namespace moesim
