// Which tokens of a prompt online dynamic pruning protects.
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

// Two sequences of four and three tokens over two layers that are alike.
TraceData prompts() {
  TraceData data;
  data.shape = {7, 2, 4};
  data.logits_dtype = "F32";
  data.sequence = {0, 0, 0, 0, 1, 1, 1};
  const std::vector<float> sizes{1, 2, 3, 4, 8, 1, 1};
  const std::vector<float> attention{40, 3, 0, 0, 0, 1, 2};
  for (std::size_t token = 0; token < 7; ++token) {
    for (std::size_t layer = 0; layer < 2; ++layer) {
      data.logits.insert(data.logits.end(), {3, 0, -1, -2});
      data.router_input_l1.push_back(sizes[token]);
      data.attention_received.push_back(attention[token]);
    }
  }
  return data;
}

// Rows that keep both experts in both layers; the others must keep one.
Ids protected_tokens(const Json& config, const RoutingContext& context) {
  const auto policy = routing_policy(config, context);
  Gate gate(context.gate, 4, 2);
  const std::vector<float> logits{3, 0, -1, -2};
  gate.set_logits(logits, {});
  Ids rows;
  for (std::uint32_t token = 0; token < 7; ++token) {
    const auto runs = [&](std::size_t layer) {
      return route(*policy, gate, states_of(4, {}), LayerId(layer), token).ids.size();
    };
    REQUIRE(runs(0) == runs(1));
    if (runs(0) == 2) rows.push_back(token);
  }
  return rows;
}

}  // namespace

TEST_SUITE("routing/odp_protection") {
  TEST_CASE("the most important tokens of a prompt keep their experts, in each layer") {
    const Trace trace = trace_of(prompts());
    RoutingContext context = routing_context(gate_of('A'), 4, 2, 2);
    context.trace = &trace;
    const auto kept = [&](const char* form, double share, bool as_prompt) {
      return protected_tokens({{"policy", "odp"},
                               {"mu", 1},
                               {"protect", form},
                               {"protect_share", share},
                               {"as_prompt", as_prompt}},
                              context);
    };
    // Sizes 1 2 3 4 | 8 1 1 over (L - j): 1/4 2/3 3/2 4/1 | 8/3 1/2 1/1.
    CHECK(kept("code", 0.25, true) == Ids{3});  // floor(0.25 * 3) of the second sequence is none
    CHECK(kept("code", 0.5, true) == Ids{2, 3, 4});
    // Attention 40 3 0 0 | 0 1 2 times that: 10 2 0 0 | 0 1/2 2.
    CHECK(kept("paper", 0.25, true) == Ids{0});
    CHECK(kept("paper", 0.5, true) == Ids{0, 1, 6});
    CHECK(kept("code", 0, true).empty());
    CHECK(kept("code", 1, true) == Ids{0, 1, 2, 3, 4, 5, 6});
    // One token at a time: the released code protects none.
    CHECK(kept("code", 1, false).empty());
    CHECK(kept("none", 1, true).empty());
  }

  TEST_CASE("protection counts the decode tokens of a sequence alone") {
    TraceData data = prompts();
    data.phase = {0, 0, 1, 1, 1, 1, 1};
    const Trace trace = trace_of(data);
    RoutingContext context = routing_context(gate_of('A'), 4, 2, 2);
    context.trace = &trace;
    // 3/2 and 4/1 are left of the first sequence; half of two is one.
    CHECK(protected_tokens({{"policy", "odp"},
                            {"mu", 1},
                            {"protect", "code"},
                            {"protect_share", 0.5},
                            {"as_prompt", true}},
                           context) == Ids{3, 4});
  }

  TEST_CASE("protection names the tensor that is missing") {
    TraceData data = prompts();
    data.attention_received.clear();
    const Trace sizes = trace_of(data);
    data.router_input_l1.clear();
    const Trace neither = trace_of(data);
    RoutingContext context = routing_context(gate_of('A'), 4, 2, 2);
    const auto text = [&](const char* form, bool as_prompt) {
      return user_error_of([&] {
        routing_policy(
            {{"policy", "odp"}, {"mu", 0.5}, {"protect", form}, {"as_prompt", as_prompt}}, context);
      });
    };
    CHECK(
        text("code", true) ==
        "run.json: /routing/protect: odp needs the tensor router_input_l1, and there is no trace");
    context.trace = &neither;
    CHECK(text("code", true) ==
          "run.json: /routing/protect: odp needs the tensor router_input_l1, which the trace t "
          "lacks");
    context.trace = &sizes;
    CHECK(text("paper", true) ==
          "run.json: /routing/protect: odp needs the tensor attention_received, which the trace t "
          "lacks");
    CHECK(text("paper", false) ==
          "run.json: /routing/protect: the paper's form needs the attention of later tokens, which "
          "a token that is being decoded does not have: set as_prompt where the tokens of a "
          "sequence stand for a prompt");
  }
}

}  // namespace moesim::test
