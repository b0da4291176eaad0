// max_rank, cumulative_threshold and cache_prior: hand-worked cases and messages.
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

// Native: 0 1 2 3 in this order; 4 and 5 follow.
const std::vector<float> kLogits{3, 2, 1, 0.5F, 0, -1};

Selection run(const Json& config, const Ids& residents, std::size_t k = 4) {
  const RoutingContext context = routing_context(gate_of('A'), 6, k);
  return route(*routing_policy(config, context), context, kLogits, residents);
}

std::string message(const Json& config, std::size_t k = 4) {
  return user_error_of([&] { routing_policy(config, routing_context(gate_of('A'), 6, k)); });
}

}  // namespace

TEST_SUITE("routing/cache_aware") {
  TEST_CASE("max_rank puts residents inside the window first and fills by rank") {
    const Json config = {{"policy", "max_rank"}, {"M", 5}, {"keep_top", 1}};
    CHECK(ids_of(run(config, {})) == Ids{0, 1, 2, 3});
    CHECK(ids_of(run(config, {4})) == Ids{0, 4, 1, 2});
    CHECK(ids_of(run(config, {5})) == Ids{0, 1, 2, 3});  // rank 6 of a window of 5
    CHECK(ids_of(run(config, {3, 4})) == Ids{0, 3, 4, 1});
    CHECK(ids_of(run(config, {1, 2, 3, 4})) == Ids{0, 1, 2, 3});
  }

  TEST_CASE("max_rank weighs what it promoted by the original logits") {
    const Selection chosen = run({{"policy", "max_rank"}, {"M", 5}, {"keep_top", 1}}, {4}, 2);
    REQUIRE(ids_of(chosen) == Ids{0, 4});
    CHECK(near(chosen.weights[0], 1 / (1 + std::exp(-3.0)), 1e-12));
    CHECK(near(chosen.weights[0] + chosen.weights[1], 1, 1e-12));
  }

  TEST_CASE("cumulative_threshold widens its window with a flat router") {
    // Probabilities .605 .222 .082 .050 .030 .011, so .82 is reached by 2 and .90 by 3.
    CHECK(ids_of(run({{"policy", "cumulative_threshold"}, {"p_thr", 0.82}, {"keep_top", 1}}, {2},
                     2)) == Ids{0, 1});
    CHECK(ids_of(run({{"policy", "cumulative_threshold"}, {"p_thr", 0.90}, {"keep_top", 1}}, {2},
                     2)) == Ids{0, 2});
    CHECK(ids_of(run({{"policy", "cumulative_threshold"}, {"p_thr", 0.90}, {"keep_top", 1}}, {3},
                     2)) == Ids{0, 1});
  }

  TEST_CASE("cache_prior lets a resident pass as far as the bonus reaches") {
    // Range 4: the bonus is 4 lambda, and expert 4 needs more than 2 to pass expert 1.
    const auto config = [](double lambda) {
      return Json{{"policy", "cache_prior"}, {"lambda", lambda}, {"keep_top", 1}};
    };
    CHECK(ids_of(run(config(0.45), {4}, 2)) == Ids{0, 1});
    CHECK(ids_of(run(config(0.55), {4}, 2)) == Ids{0, 4});
    // Exactly equal: the lower id.
    CHECK(ids_of(run(config(0.5), {4}, 2)) == Ids{0, 1});
  }

  TEST_CASE("cache_prior averages the range per layer as it is told") {
    const std::vector<float> wide{8, 7, 0, 0, 0, 0};
    // z of the second visit: expert 2 passes expert 1 with a bonus above 1.
    const std::vector<float> narrow{3, 2, 1, 1, 1, 1};
    const auto second = [&](const char* range, double lambda, LayerId first_layer) {
      const RoutingContext context = routing_context(gate_of('A'), 6, 2, 2);
      const auto policy = routing_policy(
          {{"policy", "cache_prior"}, {"lambda", lambda}, {"keep_top", 1}, {"range", range}},
          context);
      Gate gate(context.gate, 6, 2);
      gate.set_logits(wide, {});
      route(*policy, gate, states_of(6, {}), first_layer);
      gate.set_logits(narrow, {});
      return ids_of(route(*policy, gate, states_of(6, {2}), LayerId{0}));
    };
    // Mean (8 + 2) / 2 = 5, this token 2, ema 0.99 * 8 + 0.01 * 2 = 7.94.
    CHECK(second("mean", 0.19, LayerId{0}) == Ids{0, 1});
    CHECK(second("mean", 0.21, LayerId{0}) == Ids{0, 2});
    CHECK(second("token", 0.49, LayerId{0}) == Ids{0, 1});
    CHECK(second("token", 0.51, LayerId{0}) == Ids{0, 2});
    CHECK(second("ema", 0.1258, LayerId{0}) == Ids{0, 1});
    CHECK(second("ema", 0.1261, LayerId{0}) == Ids{0, 2});
    // Another layer's range does not count.
    CHECK(second("mean", 0.49, LayerId{1}) == Ids{0, 1});
  }

  TEST_CASE("an expert in flight is not resident to a router") {
    const RoutingContext context = routing_context(gate_of('A'), 6, 2);
    std::vector<Residency> states(6, Residency::kAbsent);
    states[4] = Residency::kInFlight;
    for (const std::string name : {"max_rank", "cumulative_threshold", "cache_prior"}) {
      CAPTURE(name);
      Json config = {{"policy", name}, {"keep_top", 1}};
      if (config["policy"] == "max_rank") config["M"] = 6;
      if (config["policy"] == "cumulative_threshold") config["p_thr"] = 1.0;
      if (config["policy"] == "cache_prior") config["lambda"] = 1.0;
      const auto policy = routing_policy(config, context);
      Gate gate(context.gate, 6, 2);
      gate.set_logits(kLogits, {});
      CHECK(ids_of(route(*policy, gate, states)) == Ids{0, 1});
      CHECK(ids_of(route(*policy, gate, states_of(6, {4}))) == Ids{0, 4});
    }
  }

  TEST_CASE("the defaults fit every k and number of experts, and leave room to promote") {
    for (const char* name : {"max_rank", "cumulative_threshold", "cache_prior"}) {
      for (const auto& shape :
           {std::pair<std::size_t, std::size_t>{1, 16}, {2, 8}, {8, 64}, {16, 64}}) {
        CAPTURE(name);
        CAPTURE(shape.first);
        RoutingContext context;
        context.shape = {1, 1, shape.second};
        context.k = shape.first;
        const auto policy = routing_policy({{"policy", name}}, context);
        // With k = 16 the usual window of 12 ranks cannot be; it is then k, the model's own
        // routing.
        const bool no_window = std::string(name) == "max_rank" && shape.first > 12;
        CHECK(policy->looks_at_residency() == !no_window);
        CHECK(policy->max_experts() == shape.first);
      }
    }
  }

  TEST_CASE("parameters out of range are refused with their range") {
    CHECK(message({{"policy", "max_rank"}, {"M", 3}}) ==
          "run.json: /routing/M: expected an integer in [4, 6], got 3");
    CHECK(message({{"policy", "max_rank"}, {"M", 7}}) ==
          "run.json: /routing/M: expected an integer in [4, 6], got 7");
    CHECK(message({{"policy", "max_rank"}, {"M", 5}, {"keep_top", 5}}) ==
          "run.json: /routing/keep_top: expected an integer in [0, 4], got 5");
    CHECK(message({{"policy", "cumulative_threshold"}, {"p_thr", 1.5}}) ==
          "run.json: /routing/p_thr: expected a number in [0, 1], got 1.5");
    CHECK(message({{"policy", "cache_prior"}, {"lambda", -0.1}}) ==
          "run.json: /routing/lambda: expected a number in [0, 1], got -0.1");
    CHECK(message({{"policy", "cache_prior"}, {"keep_top", 5}}) ==
          "run.json: /routing/keep_top: expected an integer in [0, 4], got 5");
    CHECK(
        message({{"policy", "cache_prior"}, {"range", "men"}}) ==
        "run.json: /routing/range: unknown value \"men\"; known: mean, token, ema; nearest: mean");
    CHECK(message({{"policy", "cache_prior"}, {"Lambda", 0.1}}) ==
          "run.json: /routing/Lambda: unknown key; known here: keep_top, lambda, policy, range; "
          "nearest: lambda");
  }
}

}  // namespace moesim::test
