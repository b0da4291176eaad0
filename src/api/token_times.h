// The rows of a per-token CSV (sim run --tokens-csv), read back.
#pragma once

#include <array>
#include <numeric>
#include <string>
#include <vector>

namespace moesim {

struct TokenTimes {
  std::vector<std::array<double, 3>> ids;  // token, sequence, position
  std::vector<double> wall_ms;
  std::vector<double> misses;

  [[nodiscard]] double mean_ms() const { return mean(wall_ms); }
  [[nodiscard]] double mean_misses() const { return mean(misses); }

 private:
  static double mean(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }
};

// Throws UserError: no such file, a column that is missing, a cell that is no number, no rows.
TokenTimes read_token_times(const std::string& path);

}  // namespace moesim
