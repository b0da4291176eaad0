// Routing policies and proxies against the fixtures, with an LRU of its own as the cache.
#include <map>

#include "metrics/routing_quality.h"
#include "routing/odp_thresholds.h"
#include "routing/tsallis_entropy.h"
#include "support/routing.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

// The timestamp form of the reference: resident are the `capacity` experts touched last.
class TimestampLru {
 public:
  TimestampLru(std::size_t experts, std::size_t capacity)
      : touched_(experts, 0),
        loaded_(experts, 0),
        states_(experts, Residency::kAbsent),
        capacity_(capacity) {}

  [[nodiscard]] std::span<const Residency> states() const { return states_; }

  // Judges all experts against the state before, then touches them in order.
  void visit(std::size_t token, const std::vector<std::size_t>& order) {
    for (const std::size_t e : order) hits += states_[e] == Residency::kResident ? 1 : 0;
    accesses += order.size();
    for (const std::size_t e : order) touched_[e] = ++clock_;
    settle(token);
  }

  [[nodiscard]] std::vector<std::size_t> least_recent_first() const {
    std::vector<std::size_t> order;
    for (std::size_t e = 0; e < states_.size(); ++e) {
      if (states_[e] == Residency::kResident) order.push_back(e);
    }
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return touched_[a] < touched_[b]; });
    return order;
  }

  std::size_t accesses = 0;
  std::size_t hits = 0;
  std::size_t loads = 0;
  std::size_t evictions = 0;
  std::size_t lifetime = 0;

 private:
  void settle(std::size_t token) {
    std::vector<std::uint64_t> newest = touched_;
    std::sort(newest.rbegin(), newest.rend());
    const std::uint64_t oldest = std::max<std::uint64_t>(1, newest[capacity_ - 1]);
    for (std::size_t e = 0; e < states_.size(); ++e) {
      const bool stays = touched_[e] >= oldest;
      const bool was = states_[e] == Residency::kResident;
      if (stays && !was) {
        ++loads;
        loaded_[e] = token;
      }
      if (!stays && was) {
        ++evictions;
        lifetime += token - loaded_[e];
      }
      states_[e] = stays ? Residency::kResident : Residency::kAbsent;
    }
  }

  std::vector<std::uint64_t> touched_;  // 0 = never
  std::vector<std::size_t> loaded_;
  std::vector<Residency> states_;
  std::size_t capacity_;
  std::uint64_t clock_ = 0;
};

// Executed experts by original weight, largest first.
std::vector<std::size_t> by_weight(const Selection& executed, Gate& gate) {
  std::vector<std::size_t> order = sorted(ids_of(executed));
  const auto p = gate.probabilities();
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return p[a] > p[b]; });
  return order;
}

struct Replay {
  TimestampLru cache;
  RoutingQualityResult quality;
};

Replay replay(const Json& fixture, const Json& row, const std::vector<float>& logits,
              const RoutingContext& context) {
  const std::size_t experts = context.shape.experts;
  const std::size_t tokens = logits.size() / experts;
  const auto policy = routing_policy(row.at("routing"), context);
  const bool one_by_one = row.at("accounting") == "access";
  const bool ascending = row.at("eviction").value("touch_order", "descending") == "ascending";
  Gate gate(context.gate, experts, context.k);
  TimestampLru cache(experts, fixture.at("capacity").get<std::size_t>());
  RoutingQuality quality(context.shape, context.k, policy->max_experts(), tokens);
  for (std::size_t t = 0; t < tokens; ++t) {
    gate.set_logits(std::span(logits).subspan(t * experts, experts), {});
    const RouterVisit visit{static_cast<std::uint32_t>(t), 0, LayerId{0}, gate};
    const ResidencyView view(LayerId{0}, cache.states(), nullptr);
    Selection chosen;
    policy->route(visit, view, chosen);
    quality.add(LayerId{0}, gate, chosen);
    if (const auto divergence = policy->bias_divergence(visit, view)) {
      quality.add_bias_divergence(LayerId{0}, *divergence);
    }
    std::vector<std::size_t> order = by_weight(chosen, gate);
    if (ascending) std::reverse(order.begin(), order.end());
    if (!one_by_one) cache.visit(t, order);
    for (const std::size_t e : order) {
      if (one_by_one) cache.visit(t, {e});
    }
  }
  return {cache, quality.result()};
}

void check_proxies(const Json& expected, const RoutingQualityResult& quality) {
  const RoutingProxies& mean = quality.mean;
  const std::map<std::string, std::optional<double>> computed = {
      {"agreement", mean.agreement},
      {"swap_rate", mean.swap_rate},
      {"retained_mass", mean.retained_mass},
      {"retained_mass_absolute", mean.retained_mass_absolute},
      {"dropped_mass", mean.dropped_mass},
      {"skipped_mass", mean.skipped_mass},
      {"total_variation", mean.total_variation},
      {"jensen_shannon", mean.jensen_shannon},
      {"gate_l2", mean.gate_l2},
      {"logit_regret", mean.logit_regret},
      {"logit_regret_over_mean_range", mean.logit_regret_over_mean_range},
      {"kl_bias", mean.bias_divergence}};
  for (const auto& item : expected.at("proxies").items()) {
    CAPTURE(item.key());
    REQUIRE(computed.at(item.key()).has_value());
    CHECK(near(*computed.at(item.key()), item.value().get<double>()));
  }
  CHECK(near(quality.p95.dropped_mass.value(), expected.at("p95").at("dropped_mass")));
  CHECK(near(quality.p95.jensen_shannon.value(), expected.at("p95").at("jensen_shannon")));
  CHECK(near(quality.p95.gate_l2.value(), expected.at("p95").at("gate_l2")));
  CHECK(Json(quality.displaced_by_rank) == expected.at("displaced_by_rank"));
  CHECK(Json(quality.promoted_by_rank) == expected.at("promoted_by_rank"));
}

void check_cache(const Json& expected, const TimestampLru& cache, std::size_t capacity,
                 std::size_t tokens) {
  CHECK(cache.accesses == expected.at("accesses"));
  CHECK(cache.hits == expected.at("hits"));
  if (!expected.contains("loads")) return;
  CHECK(cache.loads == expected.at("loads"));
  CHECK(cache.evictions == expected.at("evictions"));
  CHECK(Json(cache.least_recent_first()) == expected.at("final_residents_lru_to_mru"));
  CHECK(near(static_cast<double>(cache.lifetime) / static_cast<double>(cache.evictions),
             expected.at("mean_lifetime_tokens")));
  CHECK(near(static_cast<double>(capacity * tokens) / static_cast<double>(cache.loads),
             expected.at("little_lifetime_tokens")));
}

// Tokens whose Tsallis entropy is above the threshold of the row.
std::size_t uncertain_tokens(const std::vector<float>& logits, const Json& routing) {
  Gate gate(gate_of('C'), 16, 4);
  std::size_t tokens = 0;
  for (std::size_t i = 0; i < logits.size(); i += 16) {
    gate.set_logits(std::span(logits).subspan(i, 16), {});
    const double entropy = tsallis_entropy(gate.probabilities(), routing.at("q"));
    if (entropy > routing.at("threshold").get<double>()) ++tokens;
  }
  return tokens;
}

void check_row(const Json& fixture, const Json& row, const Trace& trace,
               const std::vector<float>& logits) {
  const std::string id = row.at("id");
  CAPTURE(id);
  RoutingContext context =
      routing_context(gate_of('C'), trace.shape().experts, fixture.at("top_k"));
  context.trace = &trace;
  const Replay run = replay(fixture, row, logits, context);
  const Json& expected = row.at("expected");
  check_cache(expected, run.cache, fixture.at("capacity"), trace.shape().tokens);
  if (expected.contains("swaps")) CHECK(run.quality.added == expected.at("swaps"));
  if (expected.contains("added")) {
    CHECK(run.quality.added == expected.at("added"));
    CHECK(run.quality.removed == expected.at("removed"));
  }
  if (expected.contains("proxies")) check_proxies(expected, run.quality);
  if (expected.contains("mean_experts")) {
    CHECK(near(run.quality.mean.experts, expected.at("mean_experts")));
    const Json& histogram = expected.at("experts_histogram");
    for (std::size_t n = 0; n < run.quality.experts_histogram.size(); ++n) {
      CHECK(run.quality.experts_histogram[n] ==
            (n < histogram.size() ? histogram[n].get<std::uint64_t>() : 0));
    }
  }
}

}  // namespace

TEST_SUITE("golden/routing") {
  TEST_CASE("the synthetic layer is the one of the fixture") {
    const Json fixture = golden("synthetic_seed1.json");
    const std::vector<float> logits = synthetic_logits(fixture.at("generator"));
    for (const Json& check : fixture.at("checks").at("logits")) {
      CHECK(static_cast<double>(logits[check.at("token").get<std::size_t>() * 16 +
                                       check.at("expert").get<std::size_t>()]) ==
            check.at("value"));
    }
    for (const Json& check : fixture.at("checks").at("top_k")) {
      Gate gate(gate_of('A'), 16, 4);
      gate.set_logits(std::span(logits).subspan(check.at("token").get<std::size_t>() * 16, 16), {});
      CHECK(Json(ids_of(gate.native())) == check.at("experts"));
    }
  }

  TEST_CASE("every routing policy gives its synthetic rows") {
    const Json fixture = golden("synthetic_seed1.json");
    const std::vector<float> logits = synthetic_logits(fixture.at("generator"));
    const Trace trace = logits_trace(logits, 16, 4, 'C');
    std::size_t rows = 0;
    for (const Json& row : fixture.at("rows")) {
      if (row.at("eviction").at("policy") != "lru") continue;  // the cache of this test
      check_row(fixture, row, trace, logits);
      ++rows;
    }
    CHECK(rows == 19);
  }

  TEST_CASE("policies that change the number of experts give the dynamic rows") {
    const Json fixture = golden("dynamic_seed1.json");
    const std::vector<float> logits = synthetic_logits(fixture.at("generator"));
    const Trace trace = logits_trace(logits, 16, 4, 'C');
    for (const Json& row : fixture.at("rows")) {
      check_row(fixture, row, trace, logits);
      const Json& expected = row.at("expected");
      if (expected.contains("broadcast_tokens")) {
        CHECK(uncertain_tokens(logits, row.at("routing")) == expected.at("broadcast_tokens"));
      }
      if (expected.contains("dropped_by_rank")) {
        const auto displaced = expected.at("displaced_by_rank").get<std::vector<int>>();
        CHECK(Json(std::vector<int>(displaced.begin() + 1, displaced.end())) ==
              expected.at("dropped_by_rank"));
      }
      if (!expected.contains("thresholds")) continue;
      RoutingContext context = routing_context(gate_of('C'), 16, 4);
      context.trace = &trace;
      Section config(row.at("routing"), "run.json", "/routing");
      const std::vector<double> thresholds = read_odp_thresholds(config, context);
      REQUIRE(thresholds.size() == expected.at("thresholds").size());
      for (std::size_t r = 0; r < thresholds.size(); ++r) {
        CHECK(near(thresholds[r], expected.at("thresholds")[r].get<double>()));
      }
    }
    CHECK(fixture.at("rows").size() == 8);
  }

  TEST_CASE("the hand example, token by token") {
    const Json fixture = golden("hand_example.json");
    const RoutingContext context = routing_context(gate_of('C'), 6, 2);
    for (const Json& entry : fixture.at("policies")) {
      const auto policy = routing_policy(entry.at("routing"), context);
      TimestampLru cache(6, 3);
      for (std::size_t t = 0; t < 4; ++t) {
        const std::string id = entry.at("id");
        CAPTURE(id);
        CAPTURE(t);
        const Json& expected = entry.at("tokens")[t];
        const auto logits = fixture.at("logits")[t].get<std::vector<float>>();
        Gate gate(context.gate, 6, 2);
        gate.set_logits(logits, {});
        CHECK(Json(cache.least_recent_first()) == expected.at("residents_before"));
        const std::size_t hits_before = cache.hits;
        const Selection chosen = route(*policy, gate, cache.states());
        CHECK(Json(ids_of(chosen)) == expected.at("selected_in_policy_order"));
        if (expected.contains("window")) {
          // The cumulative rule is max_rank with a window of this token's own.
          const auto window = routing_policy(
              {{"policy", "max_rank"}, {"M", expected.at("window")}, {"keep_top", 1}}, context);
          CHECK(ids_of(route(*window, gate, cache.states())) == ids_of(chosen));
        }
        cache.visit(t, by_weight(chosen, gate));
        CHECK(cache.hits - hits_before == expected.at("hits").size());
        CHECK(Json(cache.least_recent_first()) == expected.at("residents_after"));
      }
      CHECK(cache.hits == entry.at("total_hits"));
    }
  }
}

}  // namespace moesim::test
