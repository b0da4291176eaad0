// `sim compare` as a function: two results, and what their tokens say about the difference.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "report/comparison.h"

namespace moesim {

struct CompareOptions {
  // Files: a result document, or FILE:N, line N (from 1) of a sweep's file.
  std::string a;
  std::string b;
  // What sim run --tokens-csv wrote beside each.
  std::optional<std::pair<std::string, std::string>> tokens;
  std::uint64_t seed = 1;
};

// Throws UserError: a file that is missing or no result, a line that is not there, tokens that are
// not those of the result.
Comparison compare(const CompareOptions& options);

}  // namespace moesim
