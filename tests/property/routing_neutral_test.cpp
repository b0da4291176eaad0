// Every routing policy at the setting at which it says that it changes nothing.
#include <map>

#include "support/routing_registry.h"
#include "support/scenario.h"
#include "trace/importers/importer.h"

namespace moesim::test {
namespace {

// Policies without such a setting, and why.
const std::map<std::string, std::string>& without_neutral() {
  static const std::map<std::string, std::string> reasons = {};
  return reasons;
}

const std::map<std::string, Registry<RoutingPolicy>::Entry>& policies() {
  return Registry<RoutingPolicy>::instance().all();
}

// What the policy needs, at its neutral setting; nullopt where it has none.
std::optional<Json> neutral_config(const std::string& name, const SettingsFor& at) {
  const About::Neutral neutral = policies().at(name).about.neutral;
  if (neutral == nullptr) return std::nullopt;
  Json config = needed_settings(name, at);
  config.update(neutral(at.k));
  return config;
}

// The result of a replay of `scenario` with this routing, in so far as the sets decide it.
Json outcome(Scenario& scenario, const Json& routing) {
  scenario.config["routing"] = routing;
  const Json result = result_json(scenario.run());
  return {{"cache", result.at("cache")},
          {"agreement", result.at("routing").at("agreement")},
          {"added", result.at("routing").at("added")},
          {"removed", result.at("routing").at("removed")},
          {"experts", result.at("routing").at("experts_per_token_layer")}};
}

// Both runs of `scenario` for each policy that can decide on its trace; returns how many could.
std::size_t check_runs(Scenario& scenario, const Trace& trace, std::size_t k) {
  const TemporaryFolder folder;
  const Json native = outcome(scenario, {{"policy", "top_k"}});
  CHECK(native.at("agreement") == 1);
  const char gate = trace.gate().empty() ? 'A' : trace.gate().front();
  RoutingContext context = routing_context(gate_of(gate), trace.shape().experts, k);
  context.shape = trace.shape();
  context.trace = &trace;
  std::size_t decided = 0;
  for (const auto& entry : policies()) {
    const auto config = neutral_config(entry.first, {folder.path(), trace.shape(), k});
    if (!config) continue;
    const std::string shown = config->dump();
    CAPTURE(shown);
    if (!trace.has_logits() && routing_policy(*config, context)->needs_logits()) continue;
    CHECK(outcome(scenario, *config) == native);
    ++decided;
  }
  return decided;
}

void check_phone_trace(const std::filesystem::path& file) {
  ImportRequest request;
  request.inputs = {file};
  TraceData data = import_trace("bigmoeonedge", request).data;
  Scenario scenario(data);
  scenario.config.erase("model");
  scenario.config["device"] = nullptr;
  const Trace trace = trace_of(data);
  std::size_t prompt = 0;
  while (trace.phase(prompt) == Phase::kPrefill) ++prompt;
  scenario.config["trace"]["max_tokens"] = prompt + 48;
  scenario.config["cache"] = {{"capacity_experts", 16}};
  // Those that decide by the recorded selection alone.
  CHECK(check_runs(scenario, trace, trace.top_k().value()) >= 9);
}

}  // namespace

TEST_SUITE("property/routing_neutral") {
  TEST_CASE("every policy has a neutral setting or a reason to have none") {
    for (const auto& [name, entry] : policies()) {
      const std::string policy = name;
      CAPTURE(policy);
      CHECK((entry.about.neutral != nullptr) != without_neutral().contains(policy));
    }
    for (const auto& reason : without_neutral()) CHECK(policies().contains(reason.first));
  }

  TEST_CASE("at its neutral setting a policy gives the model's own selections, at every gate") {
    const TemporaryFolder folder;
    const std::vector<RandomVisit> visits = random_visits(13);
    for (const GateSpec& gate : all_gates()) {
      const Trace trace = trace_of_visits(visits, gate);
      RoutingContext context = routing_context(gate, kLayerExperts, k_of(gate));
      context.shape.tokens = visits.size();
      context.trace = &trace;
      const std::vector<Selection> native = route_all({{"policy", "top_k"}}, context, visits);
      for (const auto& entry : policies()) {
        const auto config = neutral_config(entry.first, {folder.path(), context.shape, context.k});
        if (!config) continue;
        const std::string shown = config->dump() + " gate " + to_string(gate.code);
        CAPTURE(shown);
        if (!accepts(*config, context)) continue;
        CHECK(!routing_policy(*config, context)->looks_at_residency());
        const std::vector<Selection> routed = route_all(*config, context, visits);
        for (std::size_t t = 0; t < visits.size(); ++t) {
          REQUIRE(sorted(ids_of(routed[t])) == sorted(ids_of(native[t])));
        }
      }
    }
  }

  TEST_CASE("at its neutral setting a policy runs the bundled trace as top_k does") {
    const std::filesystem::path file = source_dir() / "traces" / "reference-moe-small.safetensors";
    Scenario scenario;
    scenario.config.erase("model");
    scenario.config["device"] = nullptr;
    scenario.config["trace"] = {{"path", file.string()}, {"max_tokens", 64}};
    scenario.config["cache"] = {{"capacity_experts", 16}};
    const Trace trace = Trace::open(file, "bundled");
    std::size_t neutral = 0;
    for (const auto& entry : policies()) neutral += entry.second.about.neutral != nullptr ? 1 : 0;
    CHECK(check_runs(scenario, trace, 8) == neutral);
  }

  TEST_CASE("at its neutral setting a policy runs the recorded phone traces as top_k does") {
    for (const char* name : {"qwen", "gemma", "gptoss"}) {
      const auto file =
          third_party(std::string("raw_traces/Helldez__BigMoeOnEdge/") + name + ".route.csv");
      if (!file) return;
      const std::string trace = name;
      CAPTURE(trace);
      check_phone_trace(*file);
    }
  }
}

}  // namespace moesim::test
