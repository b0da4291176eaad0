#include "api/token_times.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "core/errors.h"
#include "core/files.h"

namespace moesim {
namespace {

constexpr std::array kColumns{"token", "sequence", "position", "wall_ms", "misses"};

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  std::istringstream in(line);
  for (std::string cell; std::getline(in, cell, ',');) cells.push_back(cell);
  return cells;
}

// [kColumns], where each stands.
std::array<std::size_t, kColumns.size()> places_of(const std::string& header,
                                                   const std::string& path) {
  const std::vector<std::string> names = cells_of(header);
  std::array<std::size_t, kColumns.size()> places{};
  for (std::size_t i = 0; i < kColumns.size(); ++i) {
    const auto found = std::find(names.begin(), names.end(), kColumns[i]);
    if (found == names.end()) {
      throw user_error(path, fmt::format("expected the table of sim run --tokens-csv, got one "
                                         "without the column {}",
                                         kColumns[i]));
    }
    places[i] = static_cast<std::size_t>(found - names.begin());
  }
  return places;
}

double number_of(const std::string& cell, const std::string& place) {
  double value = 0;
  const char* end = cell.data() + cell.size();
  const auto parsed = std::from_chars(cell.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(value)) {
    throw user_error(place, "expected a number, got " + cell);
  }
  return value;
}

}  // namespace

TokenTimes read_token_times(const std::string& path) {
  std::istringstream in(read_text_file(path, path));
  std::string line;
  std::getline(in, line);
  const auto places = places_of(line, path);
  TokenTimes times;
  for (std::size_t number = 2; std::getline(in, line); ++number) {
    const std::vector<std::string> cells = cells_of(line);
    std::array<double, kColumns.size()> values{};
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
      const std::string place = fmt::format("{}: line {}: {}", path, number, kColumns[i]);
      if (places[i] >= cells.size()) throw user_error(place, "expected a number, got nothing");
      values[i] = number_of(cells[places[i]], place);
    }
    times.ids.push_back({values[0], values[1], values[2]});
    times.wall_ms.push_back(values[3]);
    times.misses.push_back(values[4]);
  }
  if (times.ids.empty()) throw user_error(path, "expected rows, got none");
  return times;
}

}  // namespace moesim
