// Sticky routing: hand-worked smoothing.
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

// Probabilities 3/4 and 1/4, and the other way round.
const std::vector<float> kFirst{std::log(3.0F), 0};
const std::vector<float> kSecond{0, std::log(3.0F)};

// Routes tokens of one policy, each with its sequence and layer.
class Router {
 public:
  Router(double rho, const GateSpec& spec, std::size_t experts, std::size_t layers = 2)
      : policy_(routing_policy({{"policy", "sticky"}, {"rho", rho}},
                               routing_context(spec, experts, 1, layers))),
        gate_(spec, experts, 1),
        states_(states_of(experts, {})) {}

  Selection route(const std::vector<float>& logits, std::int32_t sequence = 0, LayerId layer = {},
                  const std::vector<float>& bias = {}) {
    gate_.set_logits(logits, bias);
    Selection chosen;
    policy_->route({0, sequence, layer, gate_}, ResidencyView(layer, states_, nullptr), chosen);
    return chosen;
  }
  RoutingPolicy& policy() { return *policy_; }

 private:
  std::unique_ptr<RoutingPolicy> policy_;
  Gate gate_;
  std::vector<Residency> states_;
};

}  // namespace

TEST_SUITE("routing/sticky") {
  TEST_CASE("the smoothed probability decides, the original one weighs") {
    // Second token: rho 3/4 + (1 - rho) 1/4 of expert 0: 0.55 at 0.6, 0.45 at 0.4.
    Router sticky(0.6, gate_of('B'), 2);
    CHECK(ids_of(sticky.route(kFirst)) == Ids{0});
    const Selection held = sticky.route(kSecond);
    CHECK(ids_of(held) == Ids{0});
    CHECK(near(held.weights.front(), 0.25, 1e-7));
    // Third token: 0.6 * 0.55 + 0.4 * 0.25 = 0.43.
    CHECK(ids_of(sticky.route(kSecond)) == Ids{1});
    Router loose(0.4, gate_of('B'), 2);
    loose.route(kFirst);
    CHECK(ids_of(loose.route(kSecond)) == Ids{1});
  }

  TEST_CASE("rho = 1 keeps the first token's experts, rho = 0 remembers nothing") {
    Router frozen(1, gate_of('A'), 2);
    frozen.route(kFirst);
    for (int i = 0; i < 5; ++i) CHECK(ids_of(frozen.route(kSecond)) == Ids{0});
    Router native(0, gate_of('A'), 2);
    CHECK(!native.policy().needs_logits());
    native.route(kFirst);
    CHECK(ids_of(native.route(kSecond)) == Ids{1});
  }

  TEST_CASE("layers and sequences have their own state, and a new sequence begins anew") {
    Router sticky(0.9, gate_of('A'), 2);
    sticky.policy().begin_sequence(0);
    sticky.route(kFirst);
    CHECK(ids_of(sticky.route(kSecond, 0, LayerId{1})) == Ids{1});  // the layer's first token
    sticky.policy().begin_sequence(7);
    CHECK(ids_of(sticky.route(kSecond, 7)) == Ids{1});
    CHECK(ids_of(sticky.route(kSecond, 0)) == Ids{0});  // 0 goes on as it was
    CHECK(ids_of(sticky.route(kFirst, 7)) == Ids{1});
    sticky.policy().begin_sequence(0);
    CHECK(ids_of(sticky.route(kSecond, 0)) == Ids{1});
  }

  TEST_CASE("a selection bias and groups take part as in the model") {
    // Sigmoids of 1/2 each, and a bias of 0.1 for expert 1.
    Router biased(0.5, gate_of('D'), 2);
    for (int i = 0; i < 3; ++i) {
      CHECK(ids_of(biased.route({0, 0}, 0, LayerId{0}, {0, 0.1F})) == Ids{1});
    }
    // Groups {0, 1} and {2, 3}: the sum of a group decides, then its best expert.
    GateSpec groups = gate_of('D');
    groups.n_group = 2;
    groups.topk_group = 1;
    Router grouped(0.5, groups, 4);
    CHECK(ids_of(grouped.route({4, -4, 2, 2})) == Ids{2});
    CHECK(ids_of(grouped.route({4, -4, 2, 2})) == Ids{2});
  }

  TEST_CASE("rho is a share") {
    CHECK(user_error_of([] { Router(1.5, gate_of('A'), 2); }) ==
          "run.json: /routing/rho: expected a number in [0, 1], got 1.5");
  }
}

}  // namespace moesim::test
