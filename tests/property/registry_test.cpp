// What every registered policy says of itself: complete, and true of what its factory takes.
#include "config/registry.h"

#include <cmath>
#include <limits>
#include <optional>
#include <regex>
#include <string>
#include <vector>

#include "cache/eviction/eviction_policy.h"
#include "core/rng.h"
#include "prefetch/prefetcher.h"
#include "routing/routing_policy.h"
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr RoutingShape kShape{32, 2, 16};
constexpr std::size_t kNative = 4;

// With every tensor that a policy may ask for.
const Trace& full_trace() {
  static const Trace trace = [] {
    Rng rng(5);
    TraceData data;
    data.shape = kShape;
    const std::size_t cells = kShape.tokens * kShape.layers;
    const std::vector<float> logits = random_logits(rng, cells * kShape.experts);
    data.logits = logits;
    data.next_layer_logits = logits;
    for (std::size_t token = 0; token < kShape.tokens; ++token) {
      data.token_ids.push_back(static_cast<std::int32_t>(token % 7));
    }
    data.router_input_l1.assign(cells, 1.0F);
    data.attention_received.assign(cells, 0.5F);
    data.metadata = {{"gate", "C"}, {"top_k", std::to_string(kNative)}};
    return trace_of(data);
  }();
  return trace;
}

RoutingContext context_of(const Registry<RoutingPolicy>& /*registry*/) {
  RoutingContext context = routing_context(gate_of('C'), kShape.experts, kNative, kShape.layers);
  context.shape = kShape;
  context.trace = &full_trace();
  return context;
}
EvictionContext context_of(const Registry<EvictionPolicy>& /*registry*/) {
  EvictionContext context;
  context.shape = kShape;
  context.partitions = kShape.layers;
  return context;
}
PrefetchContext context_of(const Registry<Prefetcher>& /*registry*/) {
  PrefetchContext context;
  context.shape = kShape;
  context.k = kNative;
  context.trace = &full_trace();
  return context;
}

// The message of the error; nothing where the policy is made.
template <class Interface>
std::optional<std::string> refusal(const Json& config) {
  const auto& registry = Registry<Interface>::instance();
  try {
    static_cast<void>(registry.make(Section(config, "run.json", "/policy"), context_of(registry)));
  } catch (const UserError& error) {
    return error.what();
  }
  return std::nullopt;
}

// One end of a range such as "(0, 1]" or "[k, E]".
struct End {
  double value = 0;
  bool closed = true;
};
struct Range {
  std::optional<End> low;  // nothing where the end is not a number, k, E or L
  std::optional<End> high;
};

std::optional<End> parsed_end(const std::string& text, bool closed) {
  if (text == "k") return End{static_cast<double>(kNative), closed};
  if (text == "k - 1") return End{static_cast<double>(kNative - 1), closed};
  if (text == "E") return End{static_cast<double>(kShape.experts), closed};
  if (text == "L") return End{static_cast<double>(kShape.layers), closed};
  static const std::regex kNumber(R"(-?[0-9]+(\.[0-9]+)?(e-?[0-9]+)?)");
  if (!std::regex_match(text, kNumber)) return std::nullopt;
  return End{std::stod(text), closed};
}

Range parsed_range(const std::string& text) {
  static const std::regex kInterval(R"(([\[(])([^,]+), ([^,]+)([\])]))");
  std::smatch parts;
  if (!std::regex_match(text, parts, kInterval)) return {};
  return {parsed_end(parts[2], parts[1] == "["), parsed_end(parts[3], parts[4] == "]")};
}

bool is_of(const std::string& type, const std::string& part) {
  return (" or " + type + " or ").find(" or " + part + " or ") != std::string::npos;
}

// The end itself, or the nearest value beyond it; `step` is -1 below the low end, 1 above the high.
Json number_at(double value, bool integer, bool beyond, int step) {
  if (integer) return Json(static_cast<std::int64_t>(value) + (beyond ? step : 0));
  return Json(beyond ? std::nextafter(value, step * std::numeric_limits<double>::infinity())
                     : value);
}

// Counts what it has probed.
template <class Interface>
class Probe {
 public:
  Probe(std::string policy, const Parameter& parameter)
      : policy_(std::move(policy)), parameter_(parameter) {}

  int run() {
    if (is_of(parameter_.type, "boolean")) expect_choices({true, false}, 1);
    if (is_of(parameter_.type, "string") && parameter_.range.find('|') != std::string::npos) {
      expect_choices(names_in(parameter_.range), "no-such-name");
    }
    const bool integer = is_of(parameter_.type, "integer");
    if (integer || is_of(parameter_.type, "number")) {
      const Range range = parsed_range(parameter_.range);
      if (range.low) expect_end(*range.low, integer, -1);
      if (range.high) expect_end(*range.high, integer, 1);
    }
    return probes_;
  }

 private:
  static std::vector<Json> names_in(const std::string& range) {
    std::vector<Json> names;
    std::size_t start = 0;
    for (std::size_t bar = 0; bar != std::string::npos; start = bar + 1) {
      bar = range.find('|', start);
      names.emplace_back(range.substr(start, bar == std::string::npos ? bar : bar - start));
    }
    return names;
  }

  void expect_choices(const std::vector<Json>& good, const Json& bad) {
    for (const Json& value : good) expect_known(value);
    expect_refused(bad);
  }

  void expect_end(const End& end, bool integer, int step) {
    const Json at = number_at(end.value, integer, false, step);
    if (end.closed) {
      expect_accepted(at);
      expect_refused(number_at(end.value, integer, true, step));
    } else {
      expect_refused(at);
    }
  }

  // A name may ask for another model or trace than there is here, but it must not be unknown.
  void expect_known(const Json& value) {
    ++probes_;
    const std::optional<std::string> message = refusal<Interface>(config(value));
    CHECK_MESSAGE(!(message && contains(*message, "unknown value")), policy_, ": ",
                  message.value_or(""));
  }

  void expect_accepted(const Json& value) {
    ++probes_;
    const std::optional<std::string> message = refusal<Interface>(config(value));
    CHECK_MESSAGE(!message, policy_, " refuses ", parameter_.name, " = ", value.dump(), ": ",
                  message.value_or(""));
  }

  void expect_refused(const Json& value) {
    ++probes_;
    const std::optional<std::string> message = refusal<Interface>(config(value));
    CHECK_MESSAGE(message, policy_, " takes ", parameter_.name, " = ", value.dump());
    if (!message) return;
    CAPTURE(*message);
    CHECK(contains(*message, "run.json: /policy/" + parameter_.name + ": "));
    CHECK(message->find('\n') == std::string::npos);
  }

  [[nodiscard]] Json config(const Json& value) const {
    return {{"policy", policy_}, {parameter_.name, value}};
  }

  std::string policy_;
  const Parameter& parameter_;
  int probes_ = 0;
};

const std::vector<std::string>& known_types() {
  static const std::vector<std::string> types = {"number", "integer", "boolean",
                                                 "string", "array",   "file"};
  return types;
}

void check_parameter(const Parameter& parameter) {
  CAPTURE(parameter.name);
  CHECK(!parameter.name.empty());
  CHECK(!parameter.text.empty());
  CHECK(!parameter.range.empty());
  CHECK(!parameter.source.empty());
  bool known = false;
  for (const std::string& type : known_types()) known = known || is_of(parameter.type, type);
  CHECK_MESSAGE(known, "unknown type ", parameter.type);
  for (const std::string* text : {&parameter.text, &parameter.range, &parameter.source}) {
    CHECK(text->find('\n') == std::string::npos);
  }
}

template <class Interface>
void check_descriptions() {
  CHECK(!Registry<Interface>::instance().all().empty());
  for (const auto& [name, entry] : Registry<Interface>::instance().all()) {
    CAPTURE(name);
    CHECK(!entry.about.description.empty());
    CHECK(!entry.about.source.empty());
    for (const Parameter& parameter : entry.parameters) check_parameter(parameter);
  }
}

// Probes the parameters of every policy that can be made with its defaults here.
template <class Interface>
int probe_ranges() {
  int probes = 0;
  for (const auto& [name, entry] : Registry<Interface>::instance().all()) {
    if (refusal<Interface>({{"policy", name}})) continue;
    for (const Parameter& parameter : entry.parameters) {
      probes += Probe<Interface>(name, parameter).run();
    }
  }
  return probes;
}

}  // namespace

TEST_SUITE("property/registry") {
  TEST_CASE("every policy says what it is and where from, and describes its parameters whole") {
    check_descriptions<RoutingPolicy>();
    check_descriptions<EvictionPolicy>();
    check_descriptions<Prefetcher>();
  }

  TEST_CASE("the range of a parameter is what the policy takes") {
    CHECK(probe_ranges<RoutingPolicy>() >= 20);
    CHECK(probe_ranges<EvictionPolicy>() >= 6);
    CHECK(probe_ranges<Prefetcher>() >= 4);
  }

  TEST_CASE("a range is read as it is written") {
    CHECK(parsed_range("(0, 1]").low->value == 0);
    CHECK(!parsed_range("(0, 1]").low->closed);
    CHECK(parsed_range("[k, E]").high->value == kShape.experts);
    CHECK(parsed_range("[0, inf)").low.has_value());
    CHECK(!parsed_range("[0, inf)").high.has_value());
    CHECK(!parsed_range("a|b").low.has_value());
    CHECK(is_of("number or array", "array"));
    CHECK(!is_of("number or array", "arr"));
  }
}

}  // namespace moesim::test
