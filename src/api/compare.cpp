#include "api/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <filesystem>
#include <vector>

#include "api/token_times.h"
#include "core/errors.h"
#include "core/files.h"

namespace moesim {
namespace {

struct Headline {
  const char* pointer;
  const char* name;
};

constexpr std::array kHeadlines{
    Headline{"/throughput/decode_tokens_per_s", "tokens/s"},
    Headline{"/throughput/ttft_ms", "first token, ms"},
    Headline{"/throughput/tpot_ms/mean", "ms a token, mean"},
    Headline{"/throughput/tpot_ms/p50", "ms a token, p50"},
    Headline{"/throughput/tpot_ms/p90", "ms a token, p90"},
    Headline{"/throughput/tpot_ms/p99", "ms a token, p99"},
    Headline{"/time_ms_per_token/compute", "  compute, ms"},
    Headline{"/time_ms_per_token/flash_stall", "  flash stall, ms"},
    Headline{"/time_ms_per_token/admission", "  admission, ms"},
    Headline{"/time_ms_per_token/predictor", "  predictor, ms"},
    Headline{"/time_ms_per_token/overhead", "  overhead, ms"},
    Headline{"/cache/hit_rate", "hit rate"},
    Headline{"/cache/misses", "misses"},
    Headline{"/cache/evictions", "evictions"},
    Headline{"/cache/mib_per_token", "MiB read a token"},
    Headline{"/bounds/belady_hit_rate", "Belady hit rate, own routing"},
    Headline{"/bounds/belady_executed_hit_rate", "Belady hit rate, executed"},
    Headline{"/flash/busy_fraction", "flash busy"},
    Headline{"/prefetch/recall", "prediction recall"},
    Headline{"/routing/experts_per_token_layer", "experts a token and layer"},
    Headline{"/routing/agreement", "agreement"},
    Headline{"/routing/dropped_mass", "dropped mass"},
    Headline{"/routing/jensen_shannon", "Jensen-Shannon"},
    Headline{"/memory/expert_cache_mib", "expert cache, MiB"},
    Headline{"/memory/over_budget_mib", "over budget, MiB"},
    Headline{"/energy/j_per_token", "J a token"},
    Headline{"/tokens/measured", "tokens measured"},
};

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::size_t first = 0;
  while (first < text.size()) {
    const std::size_t end = std::min(text.find('\n', first), text.size());
    lines.push_back(text.substr(first, end - first));
    first = end + 1;
  }
  return lines;
}

// "FILE:N" as its parts; nothing where it is the name of a file, or has no number.
std::optional<std::pair<std::string, std::size_t>> selector(const std::string& source) {
  const auto colon = source.rfind(':');
  if (colon == std::string::npos || std::filesystem::exists(source)) return std::nullopt;
  std::size_t number = 0;
  const char* end = source.data() + source.size();
  const auto parsed = std::from_chars(source.data() + colon + 1, end, number);
  if (parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return std::pair{source.substr(0, colon), number};
}

Json read_source(const std::string& source) {
  if (const auto line = selector(source)) {
    const std::string text = read_text_file(line->first, line->first);
    const std::vector<std::string> lines = lines_of(text);
    if (lines.size() > 1 && Json::accept(text)) {
      throw user_error(source, "expected no line number, because the file is one result");
    }
    if (line->second == 0 || line->second > lines.size()) {
      throw user_error(
          source, fmt::format("expected a line from 1 to {}, got {}", lines.size(), line->second));
    }
    return parse_json(lines[line->second - 1], source);
  }
  const std::string text = read_text_file(source, source);
  const std::vector<std::string> lines = lines_of(text);
  if (lines.size() > 1 && Json::accept(lines[0]) && Json::accept(lines[1])) {
    throw user_error(source, fmt::format("expected one of its {0} lines, {1}:1 to {1}:{0}",
                                         lines.size(), source));
  }
  return parse_json(text, source);
}

// Paths and checksums, where a result has them.
bool has_inputs(const Json& result) {
  const Json inputs = result.value("inputs", Json::array());
  return inputs.is_array() && std::all_of(inputs.begin(), inputs.end(), [](const Json& input) {
           return input.is_object() && input.value("path", Json("")).is_string();
         });
}

Json read_result(const std::string& source) {
  Json result = read_source(source);
  const bool is_result = result.is_object() && result.value("schema", Json()) == "moesim.result/1";
  if (!is_result || !result.value("config", Json()).is_object() ||
      !result.value("cache", Json()).is_object() || !has_inputs(result)) {
    throw user_error(source, "expected a result of sim run --json or a line of sim sweep");
  }
  return result;
}

Json value_at(const Json& result, const char* pointer) {
  const Json::json_pointer place(pointer);
  return result.contains(place) ? result.at(place) : Json();
}

std::optional<double> number_at(const Json& result, const char* pointer) {
  const Json value = value_at(result, pointer);
  if (!value.is_number()) return std::nullopt;
  return value.get<double>();
}

// Appends where `a` and `b` differ; objects are looked into.
void find_differences(const Json::json_pointer& at, const Json& a, const Json& b,
                      std::vector<Comparison::Difference>& found) {
  if (!a.is_object() || !b.is_object()) {
    if (a != b) found.push_back({at.to_string(), a, b});
    return;
  }
  for (const auto& item : a.items()) {
    if (b.contains(item.key())) {
      find_differences(at / item.key(), item.value(), b.at(item.key()), found);
    } else {
      found.push_back({(at / item.key()).to_string(), item.value(), std::nullopt});
    }
  }
  for (const auto& item : b.items()) {
    if (!a.contains(item.key())) {
      found.push_back({(at / item.key()).to_string(), std::nullopt, item.value()});
    }
  }
}

// Checksums by path, so that a list of files that differs is read as such.
Json provenance(const Json& result) {
  Json json = {{"program", result.value("program", Json())}, {"inputs", Json::object()}};
  for (const Json& input : result.value("inputs", Json::array())) {
    json["inputs"][input.value("path", "")] = input.value("sha256", Json());
  }
  return json;
}

TokenTimes read_tokens(const std::string& path, const Json& result, const std::string& source) {
  TokenTimes tokens = read_token_times(path);
  const auto refuse = [&](const std::string& what, double expected, double got) {
    throw user_error(path, fmt::format("expected the tokens of {}, with {} {}, got {}", source,
                                       what, expected, got));
  };
  const auto check = [&](const char* pointer, const std::string& what, double got) {
    const auto expected = number_at(result, pointer);
    if (!expected) return;
    if (!(std::abs(*expected - got) <= 1e-9 * std::abs(*expected))) refuse(what, *expected, got);
  };
  const auto count = static_cast<double>(tokens.wall_ms.size());
  check("/tokens/measured", "measured tokens:", count);
  check("/cache/misses", "misses:", tokens.mean_misses() * count);
  check("/throughput/tpot_ms/mean", "a mean time in ms of", tokens.mean_ms());
  return tokens;
}

// "12.3 % faster".
std::string change_text(double ratio, const char* more, const char* less) {
  const double percent = ratio >= 1 ? 100 * (ratio - 1) : 100 * (1 - ratio);
  return fmt::format("{:.3g} % {}", percent, ratio >= 1 ? more : less);
}

std::string interval_text(const RatioInterval& interval) {
  const bool more = interval.ratio >= 1;
  const double low = 100 * (more ? interval.low - 1 : 1 - interval.high);
  const double high = 100 * (more ? interval.high - 1 : 1 - interval.low);
  return fmt::format("95 % interval {:.3g} to {:.3g} %", low, high);
}

class Comparer {
 public:
  explicit Comparer(const CompareOptions& options)
      : options_(options), a_(read_result(options.a)), b_(read_result(options.b)) {
    timed_ = number_at(a_, "/throughput/tpot_ms/mean") && number_at(b_, "/throughput/tpot_ms/mean");
  }

  Comparison compare() {
    comparison_.a = {options_.a, a_.value("point", Json())};
    comparison_.b = {options_.b, b_.value("point", Json())};
    for (const Headline& headline : kHeadlines) {
      const auto a = number_at(a_, headline.pointer);
      const auto b = number_at(b_, headline.pointer);
      if (a || b) comparison_.metrics.push_back({headline.pointer, headline.name, a, b});
    }
    find_differences(Json::json_pointer(), a_.at("config"), b_.at("config"), comparison_.config);
    find_differences(Json::json_pointer(), provenance(a_), provenance(b_), comparison_.others);
    if (options_.tokens) add_interval();
    comparison_.verdict = verdict();
    return comparison_;
  }

 private:
  // The same tokens of the same trace, one by one.
  [[nodiscard]] bool is_paired(const TokenTimes& a, const TokenTimes& b) const {
    const Json trace_a = value_at(a_, "/inputs/1/sha256");
    return trace_a.is_string() && trace_a == value_at(b_, "/inputs/1/sha256") && a.ids == b.ids;
  }

  void add_interval() {
    const TokenTimes a = read_tokens(options_.tokens->first, a_, options_.a);
    const TokenTimes b = read_tokens(options_.tokens->second, b_, options_.b);
    const std::vector<double>& of_a = timed_ ? a.wall_ms : a.misses;
    const std::vector<double>& of_b = timed_ ? b.wall_ms : b.misses;
    const bool paired = is_paired(a, b);
    const auto ratio = bootstrap_ratio(of_a, of_b, paired, options_.seed);
    if (!ratio) return;
    Comparison::Interval interval;
    interval.of = timed_ ? "wall_ms" : "misses";
    interval.paired = paired;
    interval.tokens_a = of_a.size();
    interval.tokens_b = of_b.size();
    interval.seed = options_.seed;
    interval.ratio = *ratio;
    comparison_.interval = interval;
  }

  [[nodiscard]] std::string verdict() const {
    const char* more = timed_ ? "faster" : "less";
    const char* less = timed_ ? "slower" : "more";
    const char* what = timed_ ? "B is " : "Without time: B misses ";
    const char* of = timed_ ? "/throughput/tpot_ms/mean" : "/cache/misses";
    const auto a = number_at(a_, of);
    const auto b = number_at(b_, of);
    if (!a || !b) return "The results cannot be compared: one of them lacks what the other has.";
    const double tokens_a = number_at(a_, "/tokens/measured").value_or(1);
    const double tokens_b = number_at(b_, "/tokens/measured").value_or(1);
    const double mean_a = timed_ ? *a : *a / tokens_a;
    const double mean_b = timed_ ? *b : *b / tokens_b;
    if (mean_a == mean_b) {
      return timed_ ? "No difference: the mean time of a token is the same of both."
                    : "Without time: no difference, misses a token are the same of both.";
    }
    if (mean_a == 0 || mean_b == 0) return "Without time: only one of them misses at all.";
    const std::string change = what + change_text(mean_a / mean_b, more, less);
    if (!comparison_.interval && options_.tokens) {
      return change + (timed_ ? "; the tokens are too few to say how sure that is."
                              : "; too few tokens, or too few that miss, to say how sure that is.");
    }
    if (!comparison_.interval) {
      return change +
             "; how sure that is cannot be said without tokens (--tokens-csv A.csv B.csv).";
    }
    const Comparison::Interval& interval = *comparison_.interval;
    const std::string sure = fmt::format("{}, {} tokens, {}", interval_text(interval.ratio),
                                         std::min(interval.tokens_a, interval.tokens_b),
                                         interval.paired ? "paired" : "not paired");
    if (interval.ratio.low <= 1 && interval.ratio.high >= 1) {
      return fmt::format("No difference that the tokens show: {} ({}).", change, sure);
    }
    return fmt::format("{} ({}).", change, sure);
  }

  const CompareOptions& options_;
  Json a_;
  Json b_;
  bool timed_ = false;
  Comparison comparison_;
};

}  // namespace

Comparison compare(const CompareOptions& options) { return Comparer(options).compare(); }

}  // namespace moesim
