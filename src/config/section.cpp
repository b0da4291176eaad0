#include "config/section.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

namespace moesim {
namespace {

// What stands in the file, cut to one short line.
std::string shown_value(const Json& value) {
  constexpr std::size_t kLongest = 60;
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
  return text;
}

std::string escaped(std::string key) {
  for (std::size_t at = 0; (at = key.find('~', at)) != std::string::npos; at += 2) {
    key.replace(at, 1, "~0");
  }
  for (std::size_t at = 0; (at = key.find('/', at)) != std::string::npos; at += 2) {
    key.replace(at, 1, "~1");
  }
  return key;
}

std::string joined(const std::set<std::string>& names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace

std::string NumberRange::text() const {
  const bool has_low = std::isfinite(low);
  const bool has_high = std::isfinite(high);
  if (has_low && has_high)
    return fmt::format("a number in {}{}, {}]", low_open ? "(" : "[", low, high);
  if (has_low) return fmt::format("a number {} {}", low_open ? ">" : ">=", low);
  if (has_high) return fmt::format("a number <= {}", high);
  return "a number";
}

Section::Section(Json node, std::string file, std::string pointer)
    : state_(std::make_shared<State>()) {
  state_->node = std::move(node);
  state_->file = std::move(file);
  state_->pointer = std::move(pointer);
  if (!state_->node.is_object()) {
    throw error_here("expected an object, got " + shown_value(state_->node));
  }
}

bool Section::has(const std::string& key) const {
  const auto found = state_->node.find(key);
  return found != state_->node.end() && !found->is_null();
}

const Json& Section::require(const std::string& key) {
  state_->read.insert(key);
  if (!has(key)) throw error(key, "missing key");
  return state_->node.at(key);
}

UserError Section::wrong(const std::string& key, const std::string& expected,
                         const Json& got) const {
  return error(key, "expected " + expected + ", got " + shown_value(got));
}

double Section::number(const std::string& key, const NumberRange& range) {
  const Json& value = require(key);
  if (!value.is_number()) throw wrong(key, range.text(), value);
  const auto number = value.get<double>();
  if (!std::isfinite(number) || !range.contains(number)) throw wrong(key, range.text(), value);
  return number;
}

std::uint64_t Section::integer(const std::string& key, std::uint64_t low, std::uint64_t high) {
  const Json& value = require(key);
  // get<unsigned>() alone would turn -1 into 4294967295 and 3.7 into 3.
  const bool whole =
      value.is_number_unsigned() || (value.is_number_integer() && value.get<std::int64_t>() >= 0);
  if (!whole || value.get<std::uint64_t>() < low || value.get<std::uint64_t>() > high) {
    const bool open_ended =
        high >= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    throw wrong(key,
                open_ended ? fmt::format("an integer >= {}", low)
                           : fmt::format("an integer in [{}, {}]", low, high),
                value);
  }
  return value.get<std::uint64_t>();
}

bool Section::boolean(const std::string& key) {
  const Json& value = require(key);
  if (!value.is_boolean()) throw wrong(key, "true or false", value);
  return value.get<bool>();
}

std::string Section::string(const std::string& key) {
  const Json& value = require(key);
  if (!value.is_string()) throw wrong(key, "a string", value);
  return value.get<std::string>();
}

std::string Section::choice(const std::string& key, const std::vector<std::string>& names) {
  std::string name = string(key);
  if (std::find(names.begin(), names.end(), name) == names.end()) {
    throw error(key, unknown_name_message(name, names));
  }
  return name;
}

std::vector<double> Section::numbers(const std::string& key, const NumberRange& range) {
  const Json& value = require(key);
  const bool right =
      value.is_array() && std::all_of(value.begin(), value.end(), [&](const Json& v) {
        return v.is_number() && range.contains(v.get<double>());
      });
  if (!right) throw wrong(key, "an array of numbers, each " + range.text(), value);
  return value.get<std::vector<double>>();
}

Section Section::object(const std::string& key) {
  const Json& value = require(key);
  Section child(value, state_->file, state_->pointer + "/" + escaped(key));
  state_->children.push_back(child);
  return child;
}

const Json& Section::raw(const std::string& key) { return require(key); }

double Section::number_or(const std::string& key, double fallback, const NumberRange& range) {
  state_->read.insert(key);
  return has(key) ? number(key, range) : fallback;
}

std::uint64_t Section::integer_or(const std::string& key, std::uint64_t fallback, std::uint64_t low,
                                  std::uint64_t high) {
  state_->read.insert(key);
  return has(key) ? integer(key, low, high) : fallback;
}

bool Section::boolean_or(const std::string& key, bool fallback) {
  state_->read.insert(key);
  return has(key) ? boolean(key) : fallback;
}

std::string Section::string_or(const std::string& key, const std::string& fallback) {
  state_->read.insert(key);
  return has(key) ? string(key) : fallback;
}

std::string Section::choice_or(const std::string& key, const std::string& fallback,
                               const std::vector<std::string>& names) {
  state_->read.insert(key);
  return has(key) ? choice(key, names) : fallback;
}

std::optional<std::uint64_t> Section::optional_integer(const std::string& key, std::uint64_t low,
                                                       std::uint64_t high) {
  state_->read.insert(key);
  if (!has(key)) return std::nullopt;
  return integer(key, low, high);
}

std::optional<Section> Section::optional_object(const std::string& key) {
  state_->read.insert(key);
  if (!has(key)) return std::nullopt;
  return object(key);
}

void Section::reject_unread_keys() const {
  std::set<std::string> known = state_->read;
  known.insert(state_->known.begin(), state_->known.end());
  for (const auto& item : state_->node.items()) {
    if (state_->read.contains(item.key())) continue;
    throw error(item.key(), "unknown key; known here: " + joined(known) + "; nearest: " +
                                nearest_name(item.key(), {known.begin(), known.end()}));
  }
  for (const Section& child : state_->children) child.reject_unread_keys();
}

void Section::accept_all_keys() {
  for (const auto& item : state_->node.items()) state_->read.insert(item.key());
}

void Section::know(const std::string& key) { state_->known.insert(key); }

UserError Section::error(const std::string& key, const std::string& message) const {
  return user_error(state_->file + ": " + state_->pointer + "/" + escaped(key), message);
}

UserError Section::error_here(const std::string& message) const {
  const std::string& pointer = state_->pointer;
  return user_error(pointer.empty() ? state_->file : state_->file + ": " + pointer, message);
}

namespace {

// Levenshtein distance, one row at a time.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

// How far `known` is from what was written. A name cut short counts as one mistake.
std::size_t distance(const std::string& written, const std::string& known) {
  const bool cut_short = !written.empty() && known.rfind(written, 0) == 0;
  return cut_short ? std::min<std::size_t>(1, edit_distance(written, known))
                   : edit_distance(written, known);
}

}  // namespace

std::string nearest_name(const std::string& name, const std::vector<std::string>& names) {
  const auto nearest = std::min_element(
      names.begin(), names.end(),
      [&](const auto& a, const auto& b) { return distance(name, a) < distance(name, b); });
  return nearest == names.end() ? "" : *nearest;
}

std::string unknown_name_message(const std::string& name, const std::vector<std::string>& names) {
  return fmt::format("unknown value \"{}\"; known: {}; nearest: {}", name, fmt::join(names, ", "),
                     nearest_name(name, names));
}

}  // namespace moesim
