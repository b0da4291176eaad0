#include "api/sweep_grid.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/errors.h"

namespace moesim {
namespace {

constexpr std::size_t kMostPoints = 1'000'000;

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == at) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// JSON, or a bare word.
Json value_of(const std::string& axis, const std::string& text) {
  if (text.empty()) throw user_error("--vary " + axis, "expected values, got an empty one");
  if (text[0] == '"') return parse_json(text, "--vary " + axis);
  Json value = Json::parse(text, nullptr, false);
  if (!value.is_discarded()) return value;
  if (Json::parse('"' + text + '"', nullptr, false).is_discarded()) {
    throw user_error("--vary " + axis, "expected JSON or a word in UTF-8");
  }
  return text;
}

std::size_t decimals(const std::string& number) {
  const auto point = number.find('.');
  return point == std::string::npos ? 0 : number.size() - point - 1;
}

// "0.1:0.5:0.1" as texts; nothing where `text` does not consist of numbers.
std::optional<std::vector<std::string>> range_parts(const std::string& text) {
  std::vector<std::string> parts = split(text, ':');
  if (parts.size() < 2) return std::nullopt;
  for (const std::string& part : parts) {
    if (!Json::parse(part, nullptr, false).is_number()) return std::nullopt;
  }
  return parts;
}

std::vector<Json> range(const std::string& axis, const std::vector<std::string>& parts) {
  const auto refuse = [&](const std::string& what) {
    throw user_error("--vary " + axis, "expected FROM:TO:STEP, got " + what);
  };
  if (parts.size() != 3) refuse(fmt::format("{}", fmt::join(parts, ":")));
  const double from = Json::parse(parts[0]).get<double>();
  const double to = Json::parse(parts[1]).get<double>();
  const double step = Json::parse(parts[2]).get<double>();
  // The slack undoes the error of decimal fractions in binary: 0.3 is three steps of 0.1.
  const double steps = std::floor((to - from) / step + 1e-9);
  if (step == 0 || !(steps >= 0)) refuse("a step that does not lead from FROM to TO");
  if (steps >= static_cast<double>(kMostPoints)) refuse("more than a million values");
  constexpr double kExact = 9007199254740992;  // 2^53: beyond, doubles skip integers
  if (std::max(std::abs(from), std::abs(to)) > kExact) refuse("a number beyond 2^53");
  const bool whole = std::all_of(parts.begin(), parts.end(), [](const std::string& part) {
    return Json::parse(part).is_number_integer();
  });
  const std::size_t digits = std::max(decimals(parts[0]), decimals(parts[2]));
  const bool plain = (parts[0] + parts[2]).find_first_of("eE") == std::string::npos;
  std::vector<Json> values;
  values.reserve(static_cast<std::size_t>(steps) + 1);
  for (std::size_t i = 0; i <= static_cast<std::size_t>(steps); ++i) {
    const double value = from + static_cast<double>(i) * step;
    if (whole) {
      values.emplace_back(static_cast<std::int64_t>(std::llround(value)));
    } else {
      values.emplace_back(plain ? std::stod(fmt::format("{:.{}f}", value, digits)) : value);
    }
  }
  return values;
}

bool is_below(const std::string& inner, const std::string& outer) {
  return inner.rfind(outer + "/", 0) == 0;
}

bool is_capacity(const std::string& pointer) { return pointer.rfind("/cache/capacity_", 0) == 0; }

void check_pair(const std::string& first, const std::string& second) {
  if (first == second) throw user_error("--vary " + second, "expected one axis for it, got two");
  if (is_below(first, second)) {
    throw user_error("--vary " + second,
                     "expected it before " + first + ", whose value it would replace");
  }
  if (is_capacity(first) && is_capacity(second)) {
    throw user_error("--vary " + second, "expected one kind of capacity, got also " + first);
  }
}

}  // namespace

SweepAxis read_axis(const std::string& text) {
  const auto equals = text.find('=');
  if (text.empty() || text.front() != '/' || equals == std::string::npos || equals < 2) {
    throw user_error("--vary " + text,
                     "expected /POINTER=VALUES, for example /cache/capacity_mib=1000,2000 or "
                     "/cache/capacity_experts=8:32:8");
  }
  SweepAxis axis{text.substr(0, equals), {}};
  const std::string values = text.substr(equals + 1);
  if (!values.empty() && values[0] == '[') {
    for (Json& value : parse_json(values, "--vary " + axis.pointer)) {
      axis.values.push_back(std::move(value));
    }
  } else if (!values.empty() && values[0] == '{') {
    throw user_error("--vary " + axis.pointer, "expected objects in an array, as in [{...},{...}]");
  } else if (const auto parts = range_parts(values)) {
    axis.values = range(axis.pointer, *parts);
  } else {
    for (const std::string& value : split(values, ',')) {
      axis.values.push_back(value_of(axis.pointer, value));
    }
  }
  if (axis.values.empty()) throw user_error("--vary " + axis.pointer, "expected values, got none");
  return axis;
}

SweepGrid::SweepGrid(std::vector<SweepAxis> axes) : axes_(std::move(axes)) {
  for (std::size_t i = 0; i < axes_.size(); ++i) {
    const SweepAxis& axis = axes_[i];
    for (std::size_t j = 0; j < i; ++j) check_pair(axes_[j].pointer, axis.pointer);
    std::vector<std::string> texts;
    texts.reserve(axis.values.size());
    // Keys sorted: an object is the same in any order.
    for (const Json& value : axis.values) texts.push_back(nlohmann::json(value).dump());
    std::sort(texts.begin(), texts.end());
    const auto twice = std::adjacent_find(texts.begin(), texts.end());
    if (twice != texts.end()) {
      throw user_error("--vary " + axis.pointer, "expected each value once, got twice " + *twice);
    }
    if (axis.values.size() > kMostPoints / size_) {
      throw user_error("--vary " + axis.pointer,
                       fmt::format("expected a grid of at most {} points", kMostPoints));
    }
    size_ *= axis.values.size();
  }
}

Json SweepGrid::point(std::size_t number) const {
  std::size_t stride = size_;
  Json point = Json::object();
  for (const SweepAxis& axis : axes_) {
    stride /= axis.values.size();
    point[axis.pointer] = axis.values[number / stride % axis.values.size()];
  }
  return point;
}

std::vector<std::string> overrides_of(const Json& point) {
  std::vector<std::string> texts;
  texts.reserve(point.size());
  for (const auto& item : point.items()) texts.push_back(item.key() + "=" + item.value().dump());
  return texts;
}

std::string point_text(const Json& point) {
  std::string text;
  for (const auto& item : point.items()) {
    const Json& value = item.value();
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", item.key(),
                        value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

}  // namespace moesim
