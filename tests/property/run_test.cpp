// What holds for every run, whatever the trace and the policies.
#include "api/run.h"

#include "core/rng.h"
#include "metrics/run_metrics.h"
#include "support/allocation_counter.h"
#include "support/routing_settings.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr const char* kOverlaps[] = {"none", "expert", "projection"};

// A routing policy over the layers of a Scenario, whatever files it needs.
Json runnable(const std::string& policy) {
  static const TemporaryFolder folder;
  Json config = needed_settings(policy, {folder.path(), {0, 4, 16}, 4});
  if (policy == "max_rank") config["M"] = 6;
  return config;
}

// A random but valid configuration over a random trace.
Json random_config(Rng& rng, const Json& base) {
  Json config = base;
  const char* scopes[] = {"layer", "global"};
  const char* evictions[] = {"lru", "lfu", "plec"};
  const bool global = rng.below(2) == 1;
  Json cache = {{"scope", scopes[global ? 1 : 0]}};
  cache["capacity_experts"] = global ? 8 + rng.below(57) : 4 + rng.below(13);
  cache["eviction"] = {{"policy", evictions[rng.below(3)]}};
  cache["accounting"] = rng.below(2) == 0 ? "event" : "access";
  cache["overflow"] = rng.below(2) == 0 ? "trim" : "keep_event";
  cache["touch_order"] = rng.below(2) == 0 ? "descending" : "ascending";
  config["cache"] = cache;
  const std::vector<std::string> routings = Registry<RoutingPolicy>::instance().names();
  config["routing"] = runnable(routings[rng.below(routings.size())]);
  config["execution"] = {{"overlap", kOverlaps[rng.below(3)]},
                         {"lanes", 1 + rng.below(5)},
                         {"threads", 1 + rng.below(6)},
                         {"expert_layout", rng.below(2) == 0 ? "slices" : "contiguous"},
                         {"service_noise", rng.below(2) == 1}};
  config["cache"]["reset"] = rng.below(2) == 0 ? "never" : "sequence";
  const bool has_future =
      config["routing"]["policy"] == "top_k" || config["routing"]["policy"] == "odp";
  if (has_future && rng.below(2) == 1) {
    const char* predictors[] = {"oracle", "noisy_oracle", "previous_token", "previous_layer",
                                "frequency"};
    const std::uint64_t predictor = rng.below(5);
    config["prefetch"] = {{"policy", predictors[predictor]},
                          {"distance", 1 + rng.below(predictor < 2 ? 6 : 4)}};
  }
  return config;
}

Duration sum(const Durations<kTimeParts>& parts) {
  Duration total{};
  for (const Duration part : parts) total += part;
  return total;
}

// Checks every pass while the run goes on.
class PassChecker final : public RunObserver {
 public:
  explicit PassChecker(RunPlan& plan) : plan_(plan), session_(plan.session()) {}

  void on_visit(const Pass& /*pass*/, LayerId layer, const VisitOutcome& visit,
                TimePoint) override {
    const ExpertCache& cache = session_.cache();
    const std::size_t partition = cache.partition_of(layer);
    // keep_event: the experts of the last event may exceed the capacity.
    const bool keeps = plan_.cache_options().overflow == Overflow::kKeepEvent;
    const std::uint64_t extra = keeps ? visit.accesses.size() : 0;
    if (cache.used(partition) > cache.capacity() + extra) ++over_capacity;
  }
  void on_pass(const PassRecord& record) override {
    ++passes;
    const Duration wall = record.end - record.start;
    if (sum(record.parts) != wall) ++broken_parts;
    Duration path{};
    for (const Duration part : record.path) path += part;
    if (path != wall) ++broken_paths;
    if (record.dependency > wall) ++impossible_dependency;
    if (record.flash_bound > wall) ++impossible_flash;
    flash_bytes += record.flash.bytes;
    if (record.cache.hits + record.cache.misses != record.cache.accesses) ++broken_counts;
  }

  std::size_t passes = 0;
  std::size_t over_capacity = 0;
  std::size_t broken_parts = 0;
  std::size_t broken_paths = 0;
  std::size_t impossible_dependency = 0;
  std::size_t impossible_flash = 0;
  std::size_t broken_counts = 0;
  std::uint64_t flash_bytes = 0;

 private:
  const RunPlan& plan_;
  ExpertSession& session_;
};

TraceData with_prefill(TraceData trace) {
  trace.phase.assign(trace.shape.tokens, 1);
  trace.sequence.assign(trace.shape.tokens, 0);
  for (std::size_t token = 0; token < trace.shape.tokens; ++token) {
    trace.sequence[token] = token < trace.shape.tokens / 2 ? 0 : 1;
    if (token % (trace.shape.tokens / 2) < 5) trace.phase[token] = 0;
  }
  return trace;
}

}  // namespace

TEST_SUITE("property/run") {
  TEST_CASE("invariants of every pass, over random configurations and traces") {
    Rng rng(11);
    for (std::uint64_t round = 0; round < 80; ++round) {
      TraceData trace = random_logits({40, 4, 16}, 4, round);
      if (round % 2 == 1) trace = with_prefill(std::move(trace));
      Scenario scenario(trace);
      scenario.config = random_config(rng, scenario.config);
      const std::string config = scenario.config.dump();
      CAPTURE(config);
      const auto plan = scenario.plan();
      PassChecker checker(*plan);
      plan->simulation()->run(0, plan->schedule().passes.size(), &checker, true);
      CHECK_NOTHROW(plan->simulation()->drain());
      CHECK(checker.passes == plan->schedule().passes.size());
      CHECK(checker.over_capacity == 0);
      CHECK(checker.broken_parts == 0);
      CHECK(checker.broken_paths == 0);
      CHECK(checker.broken_counts == 0);
      const std::uint64_t ahead_of_demand = plan->session().prefetched().issued;
      if (scenario.config["execution"]["service_noise"] == false) {
        CHECK(checker.impossible_dependency == 0);
        // What is read ahead in one pass may be served in the next.
        if (ahead_of_demand == 0) CHECK(checker.impossible_flash == 0);
      }
      // The flash delivers what was missed and what was read ahead, and nothing else.
      const CacheCounts& counts = plan->session().accounting().counts();
      const PrefetchCounts& ahead = plan->session().prefetched();
      CHECK(counts.demand_bytes == (counts.misses - counts.late) * plan->expert_bytes()[0]);
      CHECK(checker.flash_bytes == counts.demand_bytes + ahead.issued_bytes);
      CHECK(ahead.useful + ahead.late + ahead.wasted_bytes / plan->expert_bytes()[0] <=
            ahead.issued);
    }
  }

  TEST_CASE("equal inputs give equal bytes") {
    Rng rng(12);
    for (std::uint64_t round = 0; round < 6; ++round) {
      Scenario scenario(random_logits({32, 4, 16}, 4, round));
      scenario.config = random_config(rng, scenario.config);
      CHECK(result_json(scenario.run()).dump() == result_json(scenario.run()).dump());
    }
  }

  TEST_CASE("the replay without time makes the same decisions as the simulation") {
    Rng rng(13);
    for (std::uint64_t round = 0; round < 10; ++round) {
      Scenario scenario(with_prefill(random_logits({40, 4, 16}, 4, round)));
      scenario.config = random_config(rng, scenario.config);
      scenario.config.erase("prefetch");
      Json timed = result_json(scenario.run());
      scenario.config["device"] = nullptr;
      Json replayed = result_json(scenario.run());
      timed.at("prefill").erase("ms");
      replayed.at("prefill").erase("ms");
      for (const char* block : {"cache", "prefill", "routing", "tokens"}) {
        CHECK(timed.at(block) == replayed.at(block));
      }
    }
  }

  TEST_CASE("twice the flash bandwidth never slows a run with overlap none") {
    Rng rng(14);
    for (std::uint64_t round = 0; round < 12; ++round) {
      Scenario scenario(random_logits({24, 4, 16}, 4, round));
      scenario.config = random_config(rng, scenario.config);
      scenario.config["execution"]["overlap"] = "none";
      scenario.config["execution"]["service_noise"] = false;
      scenario.config.erase("prefetch");
      const Duration slow = scenario.run().result.time->wall;
      scenario.config["device"]["flash"]["bw_gbps"] = 2.0;
      CHECK(scenario.run().result.time->wall <= slow);
    }
  }

  TEST_CASE("lambda = 0 and M = k are top-k, to the byte of what is read") {
    for (std::uint64_t seed = 0; seed < 4; ++seed) {
      Scenario scenario(48, seed);
      const Json native = result_json(scenario.run());
      for (const Json& routing :
           {Json{{"policy", "cache_prior"}, {"lambda", 0}}, Json{{"policy", "max_rank"}, {"M", 4}},
            Json{{"policy", "odp"}, {"mu", 0}}}) {
        scenario.config["routing"] = routing;
        const Json result = result_json(scenario.run());
        CHECK(result.at("cache") == native.at("cache"));
        CHECK(result.at("throughput") == native.at("throughput"));
        CHECK(result.at("routing").at("agreement") == 1);
      }
    }
  }

  TEST_CASE("no eviction policy of one's own has fewer misses than the bound, access by access") {
    for (std::uint64_t seed = 0; seed < 6; ++seed) {
      for (const std::string& policy : Registry<EvictionPolicy>::instance().names()) {
        if (policy == "min_bypass") continue;  // it need not keep what it reads
        CAPTURE(policy);
        Scenario scenario(48, seed);
        scenario.config["cache"] = {
            {"capacity_experts", 6}, {"accounting", "access"}, {"eviction", {{"policy", policy}}}};
        const RunResult result = scenario.run().result;
        const double rate =
            static_cast<double>(result.cache.hits) / static_cast<double>(result.cache.accesses);
        CHECK(rate <= *result.belady_hit_rate + 1e-12);
        CHECK(*result.belady_hit_rate == *result.belady_executed_hit_rate);
        CHECK(*result.belady_hit_rate <= result.offline->upper_bound + 1e-12);
        CHECK(result.offline->lower_bound <= result.offline->upper_bound);
      }
    }
  }

  TEST_CASE("what is read ahead adds up, and an oracle turns misses into hits") {
    for (const char* overlap : kOverlaps) {
      CAPTURE(overlap);
      Scenario scenario(64, 5);
      scenario.config["execution"]["overlap"] = overlap;
      // Reads that a layer's time suffices for; else most would be late.
      scenario.config["device"]["flash"]["bw_gbps"] = 100;
      scenario.config["device"]["flash"]["host_delay_us"] = 1;
      scenario.config["device"]["flash"]["dev_cmd_us"] = 0;
      const RunResult without = scenario.run().result;
      scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 1}};
      const auto plan = scenario.plan();
      const RunResult with = execute(*plan, {});
      const PrefetchCounts& p = with.prefetch;
      CHECK(p.issued > 0);
      CHECK(p.useful + p.late <= p.issued);
      CHECK(with.cache.accesses == without.cache.accesses);
      CHECK(with.cache.hits > without.cache.hits);
      CHECK(p.late == with.cache.late);
      // Every byte that the flash delivered was missed or read ahead.
      CHECK(with.time->flash.bytes <= with.cache.demand_bytes + p.issued_bytes);
      CHECK(sum(with.time->parts) == with.time->wall);
    }
  }

  TEST_CASE("a thousand tokens in steady state allocate nothing") {
    for (const std::string& policy : Registry<RoutingPolicy>::instance().names()) {
      CAPTURE(policy);
      Scenario scenario(1400, 7);
      scenario.config["routing"] = runnable(policy);
      scenario.config["execution"]["overlap"] = "expert";
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, false);
      plan->simulation()->run(0, 400, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(400, 1400, &metrics, false);
      CHECK(allocations() - before == 0);
    }
    for (const std::string& eviction : Registry<EvictionPolicy>::instance().names()) {
      CAPTURE(eviction);
      Scenario scenario(1400, 7);
      scenario.config["cache"] = {{"capacity_experts", 6}, {"eviction", {{"policy", eviction}}}};
      scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 2}};
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, false);
      plan->simulation()->run(0, 400, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(400, 1400, &metrics, false);
      CHECK(allocations() - before == 0);
    }
  }
}

}  // namespace moesim::test
