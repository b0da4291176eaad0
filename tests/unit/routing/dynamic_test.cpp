// Policies whose number of experts follows the router's confidence: top_p, tsallis_hybrid, des.
#include "routing/top_p_count.h"
#include "routing/tsallis_entropy.h"
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

Json fixture_case(const std::string& id) {
  const Json fixture = golden("gates.json");
  for (const Json& entry : fixture.at("cases")) {
    if (entry.at("id") == id) return entry;
  }
  throw std::runtime_error("no case " + id);
}

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

std::vector<ExpertId> first_experts(std::size_t count) {
  std::vector<ExpertId> ids;
  for (std::size_t e = 0; e < count; ++e) ids.push_back(ExpertId(e));
  return ids;
}

Ids chosen_by(const Json& config, const std::vector<double>& probabilities, std::size_t k = 2) {
  const RoutingContext context = routing_context(gate_of('B'), probabilities.size(), k);
  return ids_of(route(*routing_policy(config, context), context, logits_of(probabilities), {}));
}

std::string message(const Json& config, const RoutingContext& context) {
  return user_error_of([&] { routing_policy(config, context); });
}

// Two layers of eight experts, five tokens; weights of six experts each.
TraceData six_experts() {
  TraceData data;
  data.shape = {5, 2, 8};
  data.k = 6;
  for (std::size_t cell = 0; cell < 10; ++cell) {
    data.ids.insert(data.ids.end(), {0, 1, 2, 3, 4, 5});
    // Layer 0: r4 / r5 of 1, 2, 4, 8, 16 and r5 / r6 of 2; layer 1: 2 and 1, 2, 4, 8, 16.
    const float power = static_cast<float>(1U << (cell / 2));
    const float fifth = 1.0F / 64;
    const bool first = cell % 2 == 0;
    const float fourth = first ? fifth * power : fifth * 2;
    const float sixth = first ? fifth / 2 : fifth / power;
    data.weights.insert(data.weights.end(), {1, 1, 1, fourth, fifth, sixth});
  }
  data.metadata = {{"gate", "B"}, {"top_k", "6"}};
  return data;
}

Ids des_on(const Json& config, const std::vector<float>& weights) {
  const RoutingContext context = routing_context(gate_of('B'), 8, 6, 2);
  Gate gate(context.gate, 8, 6);
  const std::vector<ExpertId> ids = first_experts(6);
  gate.set_recorded(ids, weights);
  return ids_of(route(*routing_policy(config, context), gate, states_of(8, {})));
}

}  // namespace

TEST_SUITE("routing/dynamic") {
  TEST_CASE("top_p: the fixture's cases, the cumulative probability must exceed P") {
    for (const char* id : {"top_p_crosses", "top_p_strict", "top_p_peaked"}) {
      const Json entry = fixture_case(id);
      const auto p = entry.at("given").at("probabilities").get<std::vector<double>>();
      const std::size_t count =
          top_p_count(first_experts(p.size()), p, entry.at("given").at("P"), 1);
      CHECK(count == entry.at("expected").at("selected").size());
    }
    CHECK(chosen_by({{"policy", "top_p"}}, {0.35, 0.25, 0.2, 0.2}) == Ids{0, 1});
    CHECK(chosen_by({{"policy", "top_p"}}, {0.9, 0.05, 0.03, 0.02}) == Ids{0});
    // Two equal logits are exactly a half each.
    CHECK(chosen_by({{"policy", "top_p"}, {"P", 0.5}}, {0.5, 0.5}) == Ids{0, 1});
    CHECK(chosen_by({{"policy", "top_p"}, {"P", 0.49}}, {0.5, 0.5}) == Ids{0});
  }

  TEST_CASE("top_p: floor, cap, and a P of 1 is everything") {
    const std::vector<double> p{0.6, 0.2, 0.1, 0.1};
    CHECK(chosen_by({{"policy", "top_p"}, {"P", 0.4}, {"k_min", 3}}, p) == Ids{0, 1, 2});
    CHECK(chosen_by({{"policy", "top_p"}, {"P", 0.75}, {"k_max", 1}}, p) == Ids{0});
    CHECK(chosen_by({{"policy", "top_p"}, {"P", 1}}, p) == Ids{0, 1, 2, 3});
    CHECK(chosen_by({{"policy", "top_p"}, {"P", 7}, {"k_max", 2}}, p) == Ids{0, 1});
    CHECK(chosen_by({{"policy", "top_p"}, {"P", 0}}, p) == Ids{0});
  }

  TEST_CASE("top_p leaves the experts of excluded groups out") {
    GateSpec spec = gate_of('D');
    spec.n_group = 2;
    spec.topk_group = 1;
    const RoutingContext context = routing_context(spec, 4, 1);
    const std::vector<float> logits{2, 1, 0, -1};
    const auto policy = routing_policy({{"policy", "top_p"}, {"P", 1}}, context);
    CHECK(ids_of(route(*policy, context, logits, {})) == Ids{0, 1});
  }

  TEST_CASE("top_p refuses bounds that cross") {
    const RoutingContext context = routing_context(gate_of('A'), 8, 2);
    CHECK(message({{"policy", "top_p"}, {"P", -1}}, context) ==
          "run.json: /routing/P: expected a number >= 0, got -1");
    CHECK(message({{"policy", "top_p"}, {"k_min", 0}}, context) ==
          "run.json: /routing/k_min: expected an integer in [1, 8], got 0");
    CHECK(message({{"policy", "top_p"}, {"k_min", 3}, {"k_max", 2}}, context) ==
          "run.json: /routing/k_max: expected an integer in [3, 8], got 2");
  }

  TEST_CASE("Tsallis entropy: the fixture's values, maxima and limit") {
    const Json values = fixture_case("tsallis");
    for (const char* name : {"uniform_8", "one_hot", "peaked_0.9"}) {
      auto p = values.at("given").at(name).get<std::vector<double>>();
      // The fixture's seven equal shares are rounded to nine decimals; S_q wants a sum of 1.
      if (p.front() == 0.9) std::fill(p.begin() + 1, p.end(), 0.1 / 7);
      CHECK(near(tsallis_entropy(p, 1.1), values.at("expected").at(name)));
    }
    const Json maxima = fixture_case("tsallis_maxima");
    for (const auto& item : maxima.at("expected").items()) {
      const auto experts = static_cast<std::size_t>(std::stoul(item.key()));
      const std::vector<double> uniform(experts, 1.0 / static_cast<double>(experts));
      CHECK(near(tsallis_entropy(uniform, 1.1), item.value()));
      CHECK(near(largest_tsallis_entropy(experts, 1.1), item.value()));
    }
    const Json limit = fixture_case("tsallis_limit");
    const auto p = limit.at("given").at("probabilities").get<std::vector<double>>();
    const double shannon = limit.at("expected").at("shannon");
    CHECK(near(tsallis_entropy(p, limit.at("given").at("q")), shannon, 1e-6));
    CHECK(near(tsallis_entropy(p, 1.00002), shannon, 1e-4));  // the formula, beyond the limit
    CHECK(near(largest_tsallis_entropy(8, 1), std::log(8.0), 1e-12));
  }

  TEST_CASE("tsallis_hybrid: uncertainty broadcasts, certainty keeps what stays within P") {
    const Json policy = {{"policy", "tsallis_hybrid"}};
    const std::vector<double> uniform(8, 0.125);
    const std::vector<double> peaked{0.9,     0.1 / 7, 0.1 / 7, 0.1 / 7,
                                     0.1 / 7, 0.1 / 7, 0.1 / 7, 0.1 / 7};
    CHECK(chosen_by(policy, uniform) == Ids{0, 1, 2, 3, 4, 5, 6, 7});
    CHECK(chosen_by(policy, peaked) == Ids{0, 1});  // 0.9 exceeds P: k_min
    Json capped = policy;
    capped["broadcast_cap"] = 3;
    CHECK(chosen_by(capped, uniform) == Ids{0, 1, 2});
    // 0.5 + 0.2 stays within 0.75, the third would cross it and does not run.
    const std::vector<double> three{0.5, 0.2, 0.2, 0.1};
    Json certain = {{"policy", "tsallis_hybrid"}, {"threshold", 5}, {"k_min", 1}};
    CHECK(chosen_by(certain, three) == Ids{0, 1});
    certain["P"] = 1;
    CHECK(chosen_by(certain, three) == Ids{0, 1, 2, 3});
  }

  TEST_CASE("tsallis_hybrid: a normalised threshold is a share of the largest entropy") {
    const std::vector<double> p{0.5, 0.2, 0.2, 0.1};
    const double share = tsallis_entropy(p, 1.1) / largest_tsallis_entropy(4, 1.1);
    Json config = {{"policy", "tsallis_hybrid"}, {"normalised", true}, {"threshold", share - 1e-6}};
    CHECK(chosen_by(config, p).size() == 4);
    config["threshold"] = share + 1e-6;
    CHECK(chosen_by(config, p).size() == 2);
    config.erase("threshold");
    CHECK(chosen_by(config, p).size() == (share > 0.48 ? 4 : 2));
    config["threshold"] = 1.5;
    CHECK(message(config, routing_context(gate_of('A'), 4, 2)) ==
          "run.json: /routing/threshold: expected a number in [0, 1], got 1.5");
  }

  TEST_CASE("tsallis_hybrid: weights are probabilities, or shares on request") {
    const RoutingContext context = routing_context(gate_of('B'), 4, 2);
    const std::vector<float> logits = logits_of({0.5, 0.25, 0.125, 0.125});
    Json config = {{"policy", "tsallis_hybrid"}, {"threshold", 5}};
    const Selection plain = route(*routing_policy(config, context), context, logits, {});
    CHECK(near(plain.weights[0] + plain.weights[1], 0.75, 1e-7));
    config["renormalise"] = true;
    const Selection shares = route(*routing_policy(config, context), context, logits, {});
    CHECK(near(shares.weights[0], 2.0 / 3, 1e-7));
    CHECK(near(shares.weights[0] + shares.weights[1], 1, 1e-12));
  }

  TEST_CASE("des drops two, one or none of six, by the ratios before them") {
    const Json config = {{"policy", "des"}, {"mu1", 1.5}, {"mu2", 1.25}};
    CHECK(des_on(config, {1, 1, 1, 0.8F, 0.5F, 0.5F}) == Ids{0, 1, 2, 3});
    CHECK(des_on(config, {1, 1, 1, 0.6F, 0.5F, 0.3F}) == Ids{0, 1, 2, 3, 4});
    CHECK(des_on(config, {1, 1, 1, 0.6F, 0.5F, 0.45F}) == Ids{0, 1, 2, 3, 4, 5});
    CHECK(des_on(config, {1, 1, 1, 1, 0, 0}) == Ids{0, 1, 2, 3});
    // The order of the weights counts, not that of the recording.
    CHECK(sorted(des_on(config, {0.5F, 1, 1, 1, 0.8F, 0.5F})) == Ids{1, 2, 3, 4});
  }

  TEST_CASE(
      "des starts from six experts whatever k is, and weighs those that run by their shares") {
    const RoutingContext context = routing_context(gate_of('A'), 8, 2);
    const std::vector<float> logits{8, 7, 6, 5, 4, 3, 2, 1};
    const Json config = {{"policy", "des"}, {"mu1", 3}, {"mu2", 2}};
    const auto policy = routing_policy(config, context);
    CHECK(policy->needs_logits());
    const Selection chosen = route(*policy, context, logits, {});
    CHECK(ids_of(chosen) == Ids{0, 1, 2, 3, 4});
    CHECK(near(std::accumulate(chosen.weights.begin(), chosen.weights.end(), 0.0), 1, 1e-12));
    CHECK(near(chosen.weights[0] / chosen.weights[1], std::exp(1.0), 1e-12));
  }

  TEST_CASE("des takes the medians of its ratios, per layer") {
    const Trace trace = trace_of(six_experts());
    RoutingContext context = routing_context(gate_of('B'), 8, 6, 2);
    context.trace = &trace;
    const auto policy = routing_policy({{"policy", "des"}}, context);
    CHECK(!policy->needs_logits());
    Gate gate(context.gate, 8, 6);
    const std::vector<ExpertId> ids = first_experts(6);
    // Layer 0: medians 4 and 2; layer 1: 2 and 4.
    const auto runs = [&](std::size_t layer, const std::vector<float>& weights) {
      gate.set_recorded(ids, weights);
      return route(*policy, gate, states_of(8, {}), LayerId(layer)).ids.size();
    };
    CHECK(runs(0, {1, 1, 1, 0.41F, 0.1F, 0.1F}) == 4);
    CHECK(runs(0, {1, 1, 1, 0.39F, 0.1F, 0.04F}) == 5);
    CHECK(runs(0, {1, 1, 1, 0.39F, 0.1F, 0.06F}) == 6);
    CHECK(runs(1, {1, 1, 1, 0.21F, 0.1F, 0.1F}) == 4);
    CHECK(runs(1, {1, 1, 1, 0.19F, 0.1F, 0.02F}) == 5);
    CHECK(runs(1, {1, 1, 1, 0.19F, 0.1F, 0.03F}) == 6);
  }

  TEST_CASE("des says what it lacks") {
    TraceData data = six_experts();
    const Trace weighted = trace_of(data);
    data.weights.clear();
    const Trace plain = trace_of(data);
    RoutingContext context = routing_context(gate_of('B'), 8, 6, 2);
    const Json config = {{"policy", "des"}};
    CHECK(message(config, context) ==
          "run.json: /routing: des needs mu1 and mu2, for there is no trace to take medians of");
    context.trace = &plain;
    CHECK(message(config, context) ==
          "run.json: /routing/policy: des needs topk_weights, which the trace t lacks");
    context.trace = &weighted;
    CHECK(message({{"policy", "des"}, {"experts", 7}}, context) ==
          "run.json: /routing/policy: des needs the tensor router_logits for 7 experts of k = 6, "
          "which the trace t lacks");
    CHECK(message({{"policy", "des"}, {"mu1", {1, 2, 3}}}, context) ==
          "run.json: /routing/mu1: expected 2 numbers, one per MoE layer, got 3");
    CHECK(message({{"policy", "des"}, {"mu2", -1}}, context) ==
          "run.json: /routing/mu2: expected a number >= 0, got -1");
    CHECK(message({{"policy", "des"}, {"experts", 9}}, context) ==
          "run.json: /routing/experts: expected an integer in [1, 8], got 9");
    context.gate = gate_of('F');
    context.k = 2;
    context.trace = nullptr;
    CHECK(message({{"policy", "des"}, {"mu1", 1}, {"mu2", 1}}, context) ==
          "run.json: /routing/policy: des judges ratios of weights, which mean nothing for gate F "
          "(SparseMixer)");
  }
}

}  // namespace moesim::test
