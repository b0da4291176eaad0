#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <ostream>
#include <string>

#include "report/sweep_report.h"

namespace moesim {
namespace {

// Wider values would push the numbers off the screen.
constexpr std::size_t kWidest = 48;

std::optional<double> number(const Json& block, const char* key) {
  if (!block.is_object() || !block.at(key).is_number()) return std::nullopt;
  return block.at(key).get<double>();
}

std::string word_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// What is in one object and not in all: "scope=global eviction/policy=lfu".
std::string text_of_object(const Json& value, const Json& common) {
  std::string text;
  const Json flat = value.flatten();
  for (const auto& item : flat.items()) {
    if (common.contains(item.key()) && common.at(item.key()) == item.value()) continue;
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", item.key().substr(1),
                        word_of(item.value()));
  }
  return text.empty() ? "{}" : text;
}

bool continues_character(char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) == 0x80U; }

// In characters of UTF-8.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char byte) { return !continues_character(byte); }));
}

// Of one line, and not wider than a column may be.
std::string shortened(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0x20; },
      ' ');
  if (width_of(text) <= kWidest) return text;
  std::size_t end = 0;
  for (std::size_t left = kWidest - 3; left > 0; --left) {
    do ++end;
    while (end < text.size() && continues_character(text[end]));
  }
  return text.substr(0, end) + "...";
}

// `common`: of the column, what all its objects have.
std::string text_of(const Json& value, const Json& common) {
  std::string text =
      value.is_object() && !value.empty() ? text_of_object(value, common) : word_of(value);
  return shortened(std::move(text));
}

std::string text_of(const std::optional<double>& value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

using Cells = std::vector<std::string>;

Cells header_of(const SweepRow& row, bool timed) {
  Cells cells;
  for (const auto& item : row.point.items()) cells.push_back(item.key());
  cells.emplace_back("hit %");
  if (timed) cells.emplace_back("tok/s");
  cells.emplace_back("MiB/token");
  return cells;
}

// By pointer, what the objects of a column have in common, flat; nothing where some are none, or
// where all are alike and nothing would be left to show.
Json common_of(const std::vector<SweepRow>& rows) {
  Json common = Json::object();
  for (const auto& axis : rows.front().point.items()) {
    Json shared = axis.value().is_object() ? axis.value().flatten() : Json::object();
    const auto is_first = [&](const SweepRow& row) {
      return row.point.at(axis.key()) == axis.value();
    };
    if (std::all_of(rows.begin(), rows.end(), is_first)) shared = Json::object();
    for (const SweepRow& row : rows) {
      const Json& value = row.point.at(axis.key());
      const Json flat = value.is_object() ? value.flatten() : Json::object();
      Json both = Json::object();
      for (const auto& item : shared.items()) {
        if (flat.contains(item.key()) && flat.at(item.key()) == item.value()) {
          both[item.key()] = item.value();
        }
      }
      shared = std::move(both);
    }
    common[axis.key()] = std::move(shared);
  }
  return common;
}

Cells cells_of(const SweepRow& row, bool timed, const Json& common) {
  Cells cells;
  for (const auto& item : row.point.items()) {
    cells.push_back(text_of(item.value(), common.at(item.key())));
  }
  std::optional<double> percent = row.hit_rate;
  if (percent) *percent *= 100;
  cells.push_back(text_of(percent, 3));
  if (timed) cells.push_back(text_of(row.tokens_per_s, 3));
  cells.push_back(text_of(row.mib_per_token, 1));
  return cells;
}

}  // namespace

SweepRow sweep_row(const Json& line) {
  SweepRow row;
  row.point = line.at("point");
  row.tokens_per_s = number(line.at("throughput"), "decode_tokens_per_s");
  row.hit_rate = number(line.at("cache"), "hit_rate");
  row.mib_per_token = number(line.at("cache"), "mib_per_token");
  return row;
}

void write_sweep_table(const std::vector<SweepRow>& rows, std::ostream& out) {
  if (rows.empty()) return;
  const bool timed = std::any_of(rows.begin(), rows.end(),
                                 [](const SweepRow& row) { return row.tokens_per_s.has_value(); });
  std::vector<Cells> lines{header_of(rows.front(), timed)};
  lines.reserve(rows.size() + 1);
  const Json common = common_of(rows);
  for (const SweepRow& row : rows) lines.push_back(cells_of(row, timed, common));
  std::vector<std::size_t> widths(lines.front().size(), 0);
  for (const Cells& cells : lines) {
    for (std::size_t i = 0; i < cells.size(); ++i)
      widths[i] = std::max(widths[i], width_of(cells[i]));
  }
  const std::size_t values = rows.front().point.size();
  for (const Cells& cells : lines) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const char* gap = i == 0 ? "" : "  ";
      const std::string padding(widths[i] - width_of(cells[i]), ' ');
      line += gap + (i < values ? cells[i] + padding : padding + cells[i]);
    }
    out << line << "\n";
  }
}

}  // namespace moesim
