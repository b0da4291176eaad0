#include "trace/importers/line_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "core/files.h"

namespace moesim {
namespace {

void split(std::string_view line, std::vector<std::string_view>& values) {
  values.clear();
  for (std::size_t begin = 0;;) {
    const std::size_t comma = line.find(',', begin);
    values.push_back(line.substr(begin, comma - begin));
    if (comma == std::string_view::npos) return;
    begin = comma + 1;
  }
}

}  // namespace

std::string LinePlace::text() const { return fmt::format("{}:{}", *file, line); }

std::string shown_text(std::string_view text) {
  constexpr std::size_t kLongest = 60;
  return text.size() > kLongest ? fmt::format("\"{}...\"", text.substr(0, kLongest))
                                : fmt::format("\"{}\"", text);
}

LineReader::LineReader(const std::filesystem::path& path, const std::string& file)
    : file_(file), text_(read_text_file(path, file)) {}

std::optional<LineReader::Found> LineReader::find_next() const {
  std::size_t number = number_;
  for (std::size_t begin = offset_; begin < text_.size();) {
    const std::size_t end = std::min(text_.find('\n', begin), text_.size());
    std::string_view line = std::string_view(text_).substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    ++number;
    begin = end + 1;
    if (line.find_first_not_of(" \t") != std::string_view::npos) return Found{line, number, begin};
  }
  return std::nullopt;
}

bool LineReader::next() {
  const auto found = find_next();
  if (!found) return false;
  line_ = found->line;
  number_ = found->number;
  offset_ = found->end;
  return true;
}

bool LineReader::next_starts_with(std::string_view prefix) const {
  const auto found = find_next();
  return found && found->line.starts_with(prefix);
}

UserError LineReader::error(const std::string& message) const {
  return user_error(place().text(), message);
}

Section LineReader::json() const {
  const std::string shown = place().text();
  return Section(parse_json(std::string(line_), shown), shown, "");
}

CsvRows::CsvRows(LineReader& lines, std::vector<std::string> columns)
    : lines_(lines), columns_(std::move(columns)) {
  const std::string header = fmt::format("{}", fmt::join(columns_, ","));
  const bool any = lines_.next();
  if (!any || lines_.line() != header) {
    throw lines_.error(fmt::format("expected the header \"{}\", got {}", header,
                                   any ? shown_text(lines_.line()) : "the end of the file"));
  }
}

bool CsvRows::next() {
  if (!lines_.next()) return false;
  split(lines_.line(), values_);
  if (values_.size() != columns_.size()) {
    throw lines_.error(fmt::format("expected {} columns, got {}", columns_.size(), values_.size()));
  }
  return true;
}

std::size_t CsvRows::integer(std::size_t column, std::size_t low, std::size_t high) const {
  const auto value = parse_integer(values_[column]);
  if (!value || *value < low || *value > high) {
    const std::string range =
        high == kLargest ? fmt::format(">= {}", low) : fmt::format("in [{}, {}]", low, high);
    throw lines_.error(fmt::format("{}: expected an integer {}, got {}", columns_[column], range,
                                   shown_text(values_[column])));
  }
  return *value;
}

double CsvRows::number(std::size_t column, const NumberRange& range) const {
  const std::string_view text = values_[column];
  double value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || !std::isfinite(value) ||
      !range.contains(value)) {
    throw lines_.error(
        fmt::format("{}: expected {}, got {}", columns_[column], range.text(), shown_text(text)));
  }
  return value;
}

std::optional<std::size_t> parse_integer(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size() || value < 0) return std::nullopt;
  return static_cast<std::size_t>(value);
}

std::vector<std::size_t> integers(Section& row, const std::string& key, std::size_t low,
                                  std::size_t high) {
  const Json& list = row.raw(key);
  const bool right =
      list.is_array() && std::all_of(list.begin(), list.end(), [&](const Json& value) {
        return value.is_number_unsigned() && value.get<std::size_t>() >= low &&
               value.get<std::size_t>() <= high;
      });
  if (!right) {
    throw row.error(key, fmt::format("expected an array of integers in [{}, {}], got {}", low, high,
                                     shown_text(list.dump())));
  }
  return list.get<std::vector<std::size_t>>();
}

}  // namespace moesim
