// A budget over layers: hand-worked tokens of two layers.
#include "support/routing.h"
#include "support/testing.h"
#include "support/traces.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

// Probabilities .90 .06 .04 in layer 0, .40 .35 .25 in layer 1; then the layers change places.
Trace two_layers() {
  const auto row = [](std::vector<double> p) {
    for (double& value : p) value = std::log(value);
    return std::vector<float>(p.begin(), p.end());
  };
  const std::vector<float> sure = row({0.90, 0.06, 0.04});
  const std::vector<float> unsure = row({0.40, 0.35, 0.25});
  TraceData data;
  data.shape = {2, 2, 3};
  data.logits_dtype = "F32";
  for (const auto* layer : {&sure, &unsure, &unsure, &sure}) {
    data.logits.insert(data.logits.end(), layer->begin(), layer->end());
  }
  data.metadata = {{"top_k", "1"}, {"gate", "A"}};
  return trace_of(data);
}

RoutingContext context_of(const Trace& trace, std::size_t k) {
  RoutingContext context = routing_context(gate_of('A'), trace.shape().experts, k, 2);
  context.shape = trace.shape();
  context.trace = &trace;
  return context;
}

Json budget(const Json& more) {
  Json config = {{"policy", "global_budget"}};
  if (more.is_object()) config.update(more);
  return config;
}

// The selections of both layers of a token.
std::vector<Selection> run(const Json& more, std::size_t k, std::uint32_t token = 0) {
  const Trace trace = two_layers();
  const RoutingContext context = context_of(trace, k);
  const auto policy = routing_policy(budget(more), context);
  std::vector<Selection> routed;
  for (const std::uint32_t t : {1 - token, token}) {  // another token first, which must not matter
    routed.clear();
    for (std::size_t layer = 0; layer < 2; ++layer) {
      std::vector<float> logits(3);
      trace.read_logits(t, LayerId(layer), logits);
      Gate gate(context.gate, 3, k);
      gate.set_logits(logits, {});
      routed.push_back(route(*policy, gate, states_of(3, {}), LayerId(layer), t));
    }
  }
  return routed;
}

std::string message(const Json& more) {
  const Trace trace = two_layers();
  return user_error_of([&] { routing_policy(budget(more), context_of(trace, 2)); });
}

}  // namespace

TEST_SUITE("routing/global_budget") {
  TEST_CASE("the budget goes where probability is") {
    // Four pairs: the best of each layer, then .35 and .25 of the unsure layer.
    const std::vector<Selection> free = run({}, 2);
    CHECK(ids_of(free[0]) == Ids{0});
    CHECK(ids_of(free[1]) == Ids{0, 1, 2});
    CHECK(near(free[0].weights[0], 1, 1e-12));
    CHECK(near(free[1].weights[1], 0.35, 1e-6));
    // Three pairs.
    CHECK(ids_of(run({{"budget", 0.75}}, 2)[1]) == Ids{0, 1});
    // The second token has its layers the other way round.
    CHECK(ids_of(run({}, 2, 1)[0]) == Ids{0, 1, 2});
    CHECK(ids_of(run({}, 2, 1)[1]) == Ids{0});
  }

  TEST_CASE("k_min and k_max bound each layer") {
    const std::vector<Selection> capped = run({{"k_max", 2}}, 2);
    CHECK(ids_of(capped[0]) == Ids{0, 1});  // .06 is the best that is left
    CHECK(ids_of(capped[1]) == Ids{0, 1});
    const std::vector<Selection> raised = run({{"k_min", 2}, {"budget", 1.25}}, 2);
    CHECK(ids_of(raised[0]) == Ids{0, 1});
    CHECK(ids_of(raised[1]) == Ids{0, 1, 2});
    CHECK(ids_of(run({}, 1)[1]) == Ids{0});  // one each is all there is
  }

  TEST_CASE("equal probabilities: the earlier layer, then the lower expert") {
    TraceData data;
    data.shape = {1, 2, 3};
    data.logits_dtype = "F32";
    data.logits.assign(6, 0.5F);
    const Trace trace = trace_of(data);
    const RoutingContext context = context_of(trace, 2);
    const auto policy = routing_policy(budget({{"budget", 0.75}}), context);
    const std::vector<float> logits(3, 0.5F);
    for (std::size_t layer = 0; layer < 2; ++layer) {
      Gate gate(context.gate, 3, 2);
      gate.set_logits(logits, {});
      const Selection chosen = route(*policy, gate, states_of(3, {}), LayerId(layer));
      CHECK(ids_of(chosen) == (layer == 0 ? Ids{0, 1} : Ids{0}));
    }
  }

  TEST_CASE("a budget that the layers cannot take, and a trace without logits, are refused") {
    CHECK(message({{"budget", 2}}) ==
          "run.json: /routing/budget: expected a number in [0.5, 1.5], which k_min and k_max "
          "allow, got 2");
    CHECK(contains(message({{"budget", 0}}), "expected a number > 0, got 0"));
    CHECK(message({{"k_min", 3}}) ==
          "run.json: /routing/k_min: expected an integer in [1, 2], got 3");
    CHECK(message({{"k_max", 4}}) ==
          "run.json: /routing/k_max: expected an integer in [1, 3], got 4");
    TraceData compact;
    compact.shape = {1, 2, 3};
    compact.k = 2;
    compact.ids = {0, 1, 0, 1};
    const Trace trace = trace_of(compact);
    CHECK(
        user_error_of([&] { routing_policy(budget({}), context_of(trace, 2)); }) ==
        "run.json: /routing/policy: global_budget needs the tensor router_logits of all layers of "
        "a token, which the trace t lacks");
    CHECK(contains(
        user_error_of([&] { routing_policy(budget({}), routing_context(gate_of('A'), 3, 2, 2)); }),
        "which a run without a trace lacks"));
    // At the setting that changes nothing it needs neither.
    CHECK(!routing_policy(budget({{"k_min", 2}, {"k_max", 2}}), context_of(trace, 2))
               ->needs_logits());
  }
}

}  // namespace moesim::test
