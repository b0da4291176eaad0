#include "report/comparison.h"

#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <ostream>

namespace moesim {
namespace {

template <class Value>
Json or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json side_json(const Comparison::Side& side) {
  return {{"source", side.source}, {"point", side.point}};
}

// b against a; nothing where that is no number.
std::optional<double> relative(const Comparison::Metric& metric) {
  if (!metric.a || !metric.b || *metric.a == 0) return std::nullopt;
  return *metric.b / *metric.a - 1;
}

Json metric_json(const Comparison::Metric& metric) {
  Json json = {{"pointer", metric.pointer}, {"a", or_null(metric.a)}, {"b", or_null(metric.b)}};
  json["difference"] = metric.a && metric.b ? Json(*metric.b - *metric.a) : Json(nullptr);
  json["relative"] = or_null(relative(metric));
  return json;
}

Json differences_json(const std::vector<Comparison::Difference>& differences) {
  Json json = Json::array();
  for (const Comparison::Difference& difference : differences) {
    Json row = {{"pointer", difference.pointer}};
    if (difference.a) row["a"] = *difference.a;
    if (difference.b) row["b"] = *difference.b;
    json.push_back(std::move(row));
  }
  return json;
}

Json interval_json(const Comparison::Interval& interval) {
  return {{"of", interval.of},
          {"ratio_a_over_b", interval.ratio.ratio},
          {"low", interval.ratio.low},
          {"high", interval.ratio.high},
          {"level", 0.95},
          {"paired", interval.paired},
          {"tokens", {interval.tokens_a, interval.tokens_b}},
          {"block", {interval.ratio.block_a, interval.ratio.block_b}},
          {"resamples", kResamples},
          {"seed", interval.seed}};
}

std::string text_of(const std::optional<double>& value) {
  return value ? fmt::format("{:.6g}", *value) : "-";
}

std::string text_of(const std::optional<Json>& value) {
  return value ? value->dump(-1, ' ', false, Json::error_handler_t::replace) : "(none)";
}

void write_side(const char* name, const Comparison::Side& side, std::ostream& out) {
  out << name << "  " << side.source;
  if (!side.point.is_null()) out << "  " << text_of(std::optional<Json>(side.point));
  out << "\n";
}

void write_metrics(const std::vector<Comparison::Metric>& metrics, std::ostream& out) {
  std::size_t width = 0;
  for (const auto& metric : metrics) width = std::max(width, metric.name.size());
  fmt::print(out, "\n{:<{}}  {:>12}  {:>12}  {:>12}\n", "", width, "A", "B", "B - A");
  for (const auto& metric : metrics) {
    std::optional<double> difference;
    if (metric.a && metric.b) difference = *metric.b - *metric.a;
    const auto share = relative(metric);
    fmt::print(out, "{:<{}}  {:>12}  {:>12}  {:>12}{}\n", metric.name, width, text_of(metric.a),
               text_of(metric.b), text_of(difference),
               share ? fmt::format("  {:>9}", fmt::format("{:+.2f} %", 100 * *share)) : "");
  }
}

void write_differences(const char* title, const std::vector<Comparison::Difference>& differences,
                       std::ostream& out) {
  if (differences.empty()) return;
  out << "\n" << title << "\n";
  for (const Comparison::Difference& difference : differences) {
    fmt::print(out, "  {}: {} -> {}\n", difference.pointer, text_of(difference.a),
               text_of(difference.b));
  }
}

}  // namespace

Json comparison_json(const Comparison& comparison) {
  Json json = {{"schema", "moesim.comparison/1"},
               {"a", side_json(comparison.a)},
               {"b", side_json(comparison.b)},
               {"metrics", Json::array()}};
  for (const auto& metric : comparison.metrics) json["metrics"].push_back(metric_json(metric));
  json["config"] = differences_json(comparison.config);
  json["others"] = differences_json(comparison.others);
  json["interval"] = comparison.interval ? interval_json(*comparison.interval) : Json(nullptr);
  json["verdict"] = comparison.verdict;
  return json;
}

void write_comparison(const Comparison& comparison, std::ostream& out) {
  write_side("A", comparison.a, out);
  write_side("B", comparison.b, out);
  write_metrics(comparison.metrics, out);
  write_differences("Configurations differ in", comparison.config, out);
  write_differences("Programs and inputs differ in", comparison.others, out);
  out << "\n" << comparison.verdict << "\n";
}

}  // namespace moesim
