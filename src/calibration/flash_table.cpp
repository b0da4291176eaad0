#include "calibration/flash_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/algorithm/string/classification.hpp>
#include <boost/algorithm/string/split.hpp>
#include <boost/algorithm/string/trim.hpp>
#include <charconv>
#include <cmath>
#include <sstream>
#include <utility>

#include "config/section.h"
#include "core/errors.h"
#include "core/files.h"

namespace moesim {
namespace {

// 1 TiB a read and 1 TiB/s: beyond any device, and safe as integer bytes and rates.
constexpr NumberRange kKib{1.0 / 1024.0, 1073741824.0};  // from one byte
constexpr NumberRange kMibPerSecond{0.0, 1048576.0, true};
constexpr NumberRange kLanes{1.0, 4096.0};

std::vector<std::string> fields_of(const std::string& line) {
  std::vector<std::string> fields;
  boost::split(fields, line, boost::is_any_of(","));
  for (std::string& field : fields) boost::trim(field);
  return fields;
}

// One line of the file with the places of the columns.
class Row {
 public:
  Row(const std::vector<std::string>& columns, const std::string& line, std::string place)
      : columns_(columns), fields_(fields_of(line)), place_(std::move(place)) {
    if (fields_.size() != columns_.size()) {
      throw user_error(place_,
                       fmt::format("expected {} fields, got {}", columns_.size(), fields_.size()));
    }
  }

  [[nodiscard]] double number(const std::string& column, const NumberRange& range,
                              bool whole = false) const {
    std::size_t at = 0;
    while (columns_[at] != column) ++at;
    const std::string& text = fields_[at];
    double value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool right = parsed.ec == std::errc{} && parsed.ptr == text.data() + text.size() &&
                       range.contains(value) && (!whole || value == std::floor(value));
    if (!right) {
      throw user_error(place_, fmt::format("{}: expected {}{}, got \"{}\"", column,
                                           whole ? "a whole number, " : "", range.text(), text));
    }
    return value;
  }

 private:
  const std::vector<std::string>& columns_;
  std::vector<std::string> fields_;
  std::string place_;
};

std::vector<std::string> read_header(std::istream& text, const std::string& shown) {
  std::string line;
  std::getline(text, line);
  std::vector<std::string> columns = fields_of(line);
  for (const char* column : {"read_kib", "lanes", "mib_per_s"}) {
    if (std::find(columns.begin(), columns.end(), column) == columns.end()) {
      throw user_error(shown + ":1", fmt::format("expected a column {}, got {}", column,
                                                 fmt::join(columns, ",")));
    }
  }
  return columns;
}

}  // namespace

FlashTable read_flash_table(const std::filesystem::path& path, const std::string& shown) {
  std::istringstream text(read_text_file(path, shown));
  const std::vector<std::string> columns = read_header(text, shown);
  FlashTable table;
  std::string line;
  for (std::size_t number = 2; std::getline(text, line); ++number) {
    if (boost::trim_copy(line).empty()) continue;
    const Row row(columns, line, fmt::format("{}:{}", shown, number));
    table.push_back(
        {static_cast<std::uint64_t>(std::llround(row.number("read_kib", kKib) * 1024.0)),
         static_cast<std::size_t>(row.number("lanes", kLanes, true)),
         row.number("mib_per_s", kMibPerSecond) * 1048576.0});
  }
  if (table.empty()) throw user_error(shown, "expected rows below the header, got none");
  return table;
}

}  // namespace moesim
