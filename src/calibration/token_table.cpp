#include "calibration/token_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <sstream>

#include "core/errors.h"
#include "core/files.h"

namespace moesim {
namespace {

std::vector<std::string> cells_of(std::string line) {
  if (line.ends_with('\r')) line.pop_back();
  std::vector<std::string> cells;
  std::istringstream text(line);
  for (std::string cell; std::getline(text, cell, ',');) cells.push_back(cell);
  return cells;
}

std::optional<double> positive_number(const std::string& text) {
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool right = status == std::errc{} && end == text.data() + text.size() &&
                     std::isfinite(value) && value > 0;
  return right ? std::optional(value) : std::nullopt;
}

}  // namespace

std::vector<double> read_wall_ms(const std::filesystem::path& path, const std::string& shown) {
  std::istringstream text(read_text_file(path, shown));
  std::vector<double> walls;
  std::optional<std::size_t> column;
  std::size_t number = 0;
  for (std::string line; std::getline(text, line);) {
    ++number;
    if (line.empty() || line == "\r" || line[0] == '#') continue;
    const std::vector<std::string> cells = cells_of(line);
    const std::string place = fmt::format("{}:{}", shown, number);
    if (!column) {
      const auto found = std::find(cells.begin(), cells.end(), "wall_ms");
      if (found == cells.end()) throw user_error(place, "expected a column wall_ms, got none");
      column = static_cast<std::size_t>(found - cells.begin());
      continue;
    }
    const std::string cell = *column < cells.size() ? cells[*column] : "";
    const auto wall = positive_number(cell);
    if (!wall) throw user_error(place, "wall_ms: expected a number > 0, got \"" + cell + "\"");
    walls.push_back(*wall);
  }
  return walls;
}

}  // namespace moesim
