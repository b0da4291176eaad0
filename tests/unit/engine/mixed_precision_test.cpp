// Mixed precision on a miss: HOBBIT's classes, and slices of bits.
#include "engine/mixed_precision.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "cache/future_accesses.h"
#include "metrics/run_metrics.h"
#include "report/run_report.h"
#include "support/allocation_counter.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

// One layer of six experts of 100 bytes, 30 at low precision, and a cache for their items.
class Bench {
 public:
  explicit Bench(MissPolicy policy, std::uint64_t capacity = 10000)
      : mixed_(options(policy), {0, 1, 6}, std::vector<std::uint64_t>(6, 100),
               std::vector<std::uint64_t>(6, 30)),
        cache_(cache_options(capacity), lru()) {}

  // Experts 0, 1, 2, ... with these weights.
  void visit(const std::vector<double>& weights) {
    std::vector<ExpertId> best_first;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      best_first.push_back(static_cast<ExpertId>(i));
    }
    mixed_.decide(cache_, LayerId{0}, best_first, weights);
    mixed_.settle(LayerId{0}, cache_.visit(0, LayerId{0}, mixed_.items()));
  }
  void prefill(const std::vector<ExpertId>& experts) {
    mixed_.demand_full(experts);
    mixed_.settle(LayerId{0}, cache_.visit_union(0, LayerId{0}, mixed_.items()));
  }
  [[nodiscard]] const MixedPrecision& mixed() const { return mixed_; }
  [[nodiscard]] std::uint64_t used() const { return cache_.used(0); }
  // "F30+70/100": at full precision, reads 30 and 70 bytes, runs 100.
  [[nodiscard]] std::string shown() const {
    std::string text;
    for (const ExpertRun& run : mixed_.runs()) {
      text += fmt::format("{}{}{}+{}/{}", text.empty() ? "" : " ", run.low ? "L" : "F",
                          run.read_bytes[0], run.read_bytes[1], run.run_bytes);
    }
    return text;
  }

 private:
  static MissOptions options(MissPolicy policy) { return {policy, 4, 0.6, 0.9}; }
  [[nodiscard]] CacheOptions cache_options(std::uint64_t capacity) const {
    CacheOptions options;
    options.shape = {0, 1, 12};
    options.capacity = capacity;
    options.expert_size = mixed_.item_bytes();
    return options;
  }
  static std::unique_ptr<EvictionPolicy> lru() {
    EvictionContext context;
    context.shape = {0, 1, 12};
    context.equal_sizes = false;
    return Registry<EvictionPolicy>::instance().make(
        Section(Json{{"policy", "lru"}}, "run.json", "/cache/eviction"), context);
  }

  MixedPrecision mixed_;
  ExpertCache cache_;
};

const std::vector<double> kWeights{0.5, 0.3, 0.15, 0.05};  // mass above: 0, 0.5, 0.8, 0.95

Scenario mixed_scenario(const std::string& policy, std::size_t tokens = 64) {
  Scenario scenario(tokens, 5);
  scenario.config["weights"] = {{"on_miss", {{"policy", policy}}}};
  return scenario;
}

bool looks_ahead(const std::string& eviction) {
  FutureAccesses nothing(12);
  nothing.finish();
  EvictionContext context;
  context.shape = {0, 1, 12};
  context.future = &nothing;
  return Registry<EvictionPolicy>::instance()
      .make(Section(Json{{"policy", eviction}}, "run.json", "/cache/eviction"), context)
      ->looks_ahead();
}

std::string refusal(const Scenario& scenario) {
  return user_error_of([&] { static_cast<void>(scenario.plan()); });
}

}  // namespace

TEST_SUITE("engine/mixed_precision") {
  TEST_CASE("hobbit: the mass ranked above decides what a miss reads") {
    Bench bench(MissPolicy::kHobbit);
    bench.visit(kWeights);
    CHECK(bench.shown() == "F100+0/100 F100+0/100 L30+0/30");
    CHECK(bench.mixed().skipped() == 1);
    CHECK(bench.mixed().low() == 1);
    CHECK(bench.used() == 230);
  }

  TEST_CASE("the thresholds belong to the better class, and weights need not sum to 1") {
    Bench bench(MissPolicy::kHobbit);
    bench.visit({0.4, 0.4, 0.4, 0.4, 0.4});  // 0.6 of the mass is above the fourth
    CHECK(bench.shown() == "F100+0/100 F100+0/100 F100+0/100 F100+0/100 L30+0/30");
    Bench other(MissPolicy::kHobbit);
    other.visit({0.9, 0.0, 0.1});
    CHECK(other.shown() == "F100+0/100 L30+0/30 L30+0/30");
    Bench none(MissPolicy::kHobbit);
    none.visit({0, 0, 0, 0, 0});  // equal shares
    CHECK(none.mixed().experts().size() == 5);
    CHECK(none.mixed().low() == 1);
  }

  TEST_CASE("hobbit: a full copy serves any demand, a low one only a low demand") {
    Bench bench(MissPolicy::kHobbit);
    bench.prefill({ExpertId{2}, ExpertId{3}});
    CHECK(bench.shown() == "F100+0/100 F100+0/100");
    bench.visit(kWeights);
    CHECK(bench.shown() == "F100+0/100 F100+0/100 F0+0/100 F0+0/100");
    CHECK(bench.mixed().skipped() == 0);
    Bench low(MissPolicy::kHobbit);
    low.visit(kWeights);
    low.visit(kWeights);
    CHECK(low.shown() == "F0+0/100 F0+0/100 L0+0/30");  // the low copy is there now
    low.visit({0.05, 0.05, 0.9});                       // expert 2 after 0.1 of the mass: full
    CHECK(low.shown() == "F0+0/100 F0+0/100 F100+0/100");
  }

  TEST_CASE("slices: the high-order one is the low precision, both are the full one") {
    Bench bench(MissPolicy::kSlices);
    bench.visit(kWeights);
    CHECK(bench.shown() == "F30+70/100 F30+70/100 L30+0/30");
    CHECK(bench.used() == 230);
    bench.visit({0.05, 0.05, 0.9});  // only the low-order slice of expert 2 is missing
    CHECK(bench.shown() == "F0+0/100 F0+0/100 F0+70/100");
    CHECK(bench.mixed().accesses()[2].kind == AccessKind::kMiss);
    CHECK(!bench.mixed().accesses()[2].cold);
    bench.visit(kWeights);  // now at full precision although its class is low
    CHECK(bench.shown() == "F0+0/100 F0+0/100 F0+0/100");
  }

  TEST_CASE("on random gates the classes have the shares that the gaps of the logits give") {
    // Mixtral's shape: 8 experts, 2 run, softmax renormalised. The second is full where the first
    // has at most 0.6, a gap of at most ln 1.5, and skipped beyond 0.9, a gap above ln 9.
    TraceData trace;
    trace.shape = {4000, 1, 8};
    trace.logits_dtype = "F32";
    trace.metadata = {{"model", "small"}, {"top_k", "2"}, {"gate", "A"}};
    Rng rng(11);
    std::uint64_t low = 0;
    std::uint64_t skipped = 0;
    for (std::size_t token = 0; token < trace.shape.tokens; ++token) {
      std::vector<float> row(8);
      for (float& logit : row) logit = static_cast<float>(1.5 * rng.normal());
      trace.logits.insert(trace.logits.end(), row.begin(), row.end());
      std::sort(row.begin(), row.end(), std::greater<>());
      const double gap = double{row[0]} - double{row[1]};
      skipped += gap > std::log(9.0) ? 1 : 0;
      low += gap > std::log(1.5) && gap <= std::log(9.0) ? 1 : 0;
    }
    Scenario scenario(trace);
    scenario.config["model"]["num_hidden_layers"] = 1;
    scenario.config["model"]["moe_layers"] = 1;
    scenario.config["model"]["num_experts"] = 8;
    scenario.config["model"]["num_experts_per_tok"] = 2;
    scenario.config["cache"] = {{"capacity_experts", 0}};  // every access misses
    for (const char* policy : {"hobbit", "slices"}) {
      scenario.config["weights"] = {{"on_miss", {{"policy", policy}}}};
      const RunResult result = scenario.run().result;
      CHECK(result.low_precision == low);
      CHECK(result.skipped_experts == skipped);
      CHECK(result.cache.accesses + skipped == 8000);
      CHECK(result.cache.hits == 0);
      REQUIRE(result.routing.mean.skipped_mass);
      CHECK(*result.routing.mean.skipped_mass > 0);
      CHECK(*result.routing.mean.skipped_mass == *result.routing.mean.dropped_mass);
    }
    // At this spread of the logits they are the 67 / 30 / 3 % that HOBBIT reports for Mixtral.
    CHECK(std::abs(static_cast<double>(low) / 8000 - 0.30) < 0.015);
    CHECK(std::abs(static_cast<double>(skipped) / 8000 - 0.03) < 0.01);
  }

  TEST_CASE("with both thresholds at 1 hobbit is a cache of as many bytes at full precision") {
    Scenario mixed = mixed_scenario("hobbit");
    mixed.config["weights"]["on_miss"]["thresholds"] = {1, 1};
    Scenario full(64, 5);
    for (const char* accounting : {"event", "access"}) {
      mixed.config["cache"] = {{"capacity_experts", 6}, {"accounting", accounting}};
      full.config["cache"] = mixed.config["cache"];
      const Json one = result_json(mixed.run());
      const Json other = result_json(full.run());
      for (const char* block : {"throughput", "time_ms_per_token", "cache", "flash", "routing"}) {
        CAPTURE(block);
        CHECK(one.at(block) == other.at(block));
      }
    }
  }

  TEST_CASE("counts, bytes and times agree with each other under every overlap") {
    for (const char* policy : {"hobbit", "slices"}) {
      for (const char* overlap : {"none", "expert", "projection"}) {
        for (const char* accounting : {"event", "access"}) {
          Scenario scenario = mixed_scenario(policy, 80);
          scenario.config["cache"] = {{"capacity_experts", 6}, {"accounting", accounting}};
          scenario.config["execution"]["overlap"] = overlap;
          const RunResult result = scenario.run().result;
          CHECK(result.cache.hits + result.cache.misses == result.cache.accesses);
          CHECK(result.cache.accesses + result.skipped_experts == 80 * 4 * 4);
          CHECK(result.low_precision > 0);
          CHECK(result.skipped_experts > 0);
          CHECK(result.cache.cold_misses <= 64);
          CHECK(result.time->flash.bytes == result.cache.demand_bytes);
          Duration parts{};
          for (const Duration part : result.time->parts) parts += part;
          CHECK(parts == result.time->wall);
          Duration path{};
          for (const Duration part : result.time->path) path += part;
          CHECK(path == result.time->wall);
        }
      }
    }
  }

  TEST_CASE("every eviction policy that needs no future takes items of two sizes") {
    for (const std::string& eviction : Registry<EvictionPolicy>::instance().names()) {
      for (const char* policy : {"hobbit", "slices"}) {
        Scenario scenario = mixed_scenario(policy, 60);
        scenario.config["cache"] = {{"capacity_experts", 6}, {"eviction", {{"policy", eviction}}}};
        if (looks_ahead(eviction)) {
          CHECK(contains(refusal(scenario), "needs to know the future"));
          continue;
        }
        CAPTURE(eviction);
        const RunResult result = scenario.run().result;
        CHECK(result.cache.accesses + result.skipped_experts == 60 * 4 * 4);
        CHECK(result.time->flash.bytes == result.cache.demand_bytes);
      }
    }
  }

  TEST_CASE("low precision reads less than full precision in a cache of the same bytes") {
    Scenario full(200, 5);
    full.config["cache"] = {{"capacity_experts", 6}};
    const std::uint64_t all = full.run().result.cache.demand_bytes;
    for (const char* policy : {"hobbit", "slices"}) {
      Scenario scenario = mixed_scenario(policy, 200);
      scenario.config["cache"] = {{"capacity_experts", 6}};
      CHECK(scenario.run().result.cache.demand_bytes < all);
    }
  }

  TEST_CASE("a prefill is served at full precision") {
    TraceData trace = random_logits({24, 4, 16}, 4, 5);
    trace.phase.assign(24, 1);
    std::fill_n(trace.phase.begin(), 10, std::uint8_t{0});
    Scenario scenario(trace);
    scenario.config["cache"] = {{"capacity_experts", 16}};
    const std::uint64_t full = scenario.run().result.prefill.demand_bytes;
    for (const char* policy : {"hobbit", "slices"}) {
      scenario.config["weights"] = {{"on_miss", {{"policy", policy}}}};
      CHECK(scenario.run().result.prefill.demand_bytes == full);
    }
  }

  TEST_CASE("in steady state nothing is allocated") {
    for (const char* policy : {"hobbit", "slices"}) {
      Scenario scenario = mixed_scenario(policy, 900);
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, false);
      plan->simulation()->run(0, 400, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(400, 900, &metrics, false);
      CHECK(allocations() - before == 0);
    }
  }

  TEST_CASE("what does not fit is refused with its place") {
    Scenario scenario = mixed_scenario("hobbit");
    Json& on_miss = scenario.config["weights"]["on_miss"];
    on_miss["low_bits"] = 16;
    CHECK(contains(refusal(scenario), "/weights/on_miss/low_bits: expected less than"));
    on_miss["low_bits"] = 0;
    CHECK(contains(refusal(scenario), "/weights/on_miss/low_bits: expected a number in [0.5, 32]"));
    on_miss = {{"policy", "hobbit"}, {"thresholds", {0.9, 0.6}}};
    CHECK(contains(refusal(scenario),
                   "/weights/on_miss/thresholds: expected two numbers in [0, 1] that do not "
                   "decrease, got [0.9,0.6]"));
    on_miss["thresholds"] = {0.5};
    CHECK(contains(refusal(scenario), "/thresholds: expected two numbers"));
    on_miss = {{"policy", "full"}, {"low_bits", 4}};
    CHECK(contains(refusal(scenario), "/weights/on_miss/low_bits: unknown key"));
    on_miss = {{"policy", "hobit"}};
    CHECK(contains(refusal(scenario), "nearest: hobbit"));
    on_miss = {{"policy", "hobbit"}};
    scenario.config["prefetch"] = {{"policy", "oracle"}};
    CHECK(contains(refusal(scenario), "/prefetch/policy: expected none, because weights.on_miss"));
    scenario.config.erase("prefetch");
    scenario.config["cache"]["eviction"] = {{"policy", "belady"}};
    CHECK(contains(refusal(scenario),
                   "/cache/eviction/policy: belady needs to know the future, which does not exist "
                   "with weights.on_miss"));
    scenario.config["cache"].erase("eviction");
    scenario.config.erase("device");
    scenario.config.erase("model");
    CHECK(contains(refusal(scenario), "/weights/on_miss: expected a model"));
  }

  TEST_CASE("a trace that does not weigh its experts has no classes") {
    TraceData trace;
    trace.shape = {4, 4, 16};
    trace.k = 4;
    for (std::size_t i = 0; i < 4 * 4 * 4; ++i) {
      trace.ids.push_back(static_cast<std::uint16_t>(i % 16));
    }
    trace.metadata = {{"top_k", "4"}, {"gate", "A"}};
    Scenario scenario(trace);
    scenario.config["weights"] = {{"on_miss", {{"policy", "hobbit"}}}};
    CHECK(contains(refusal(scenario),
                   "/weights/on_miss/policy: the class of a miss needs the tensor router_logits"));
  }
}

}  // namespace moesim::test
