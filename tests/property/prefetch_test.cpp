// What holds for every predictor of the registry, in whole runs.
#include <cmath>

#include "api/run.h"
#include "core/rng.h"
#include "metrics/run_metrics.h"
#include "prefetch/prefetcher.h"
#include "support/allocation_counter.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr std::size_t kLayers = 4;
constexpr std::size_t kExperts = 16;

// Everything that a predictor may need: token ids, look-ahead logits (those of the next layer
// itself), several sequences, and tokens to train on.
Scenario rich_scenario(std::size_t tokens = 60, std::uint64_t seed = 1) {
  TraceData trace = random_logits({tokens, kLayers, kExperts}, 4, seed);
  const std::size_t row = kExperts;
  for (std::size_t token = 0; token < tokens; ++token) {
    trace.token_ids.push_back(static_cast<std::int32_t>(token % 5));
    trace.sequence.push_back(static_cast<std::int32_t>(token / 25));
    for (std::size_t layer = 0; layer < kLayers; ++layer) {
      const std::size_t next = (token * kLayers + (layer + 1) % kLayers) * row;
      const auto from = trace.logits.begin() + static_cast<std::ptrdiff_t>(next);
      trace.next_layer_logits.insert(trace.next_layer_logits.end(), from,
                                     from + static_cast<std::ptrdiff_t>(row));
    }
  }
  Scenario scenario(trace);
  scenario.config["trace"]["warmup_tokens"] = 10;
  // Reads that a layer's time suffices for now and then; else all would be late.
  scenario.config["device"]["flash"]["bw_gbps"] = 8;
  scenario.config["device"]["flash"]["host_delay_us"] = 10;
  return scenario;
}

const std::vector<Parameter>& parameters_of(const std::string& policy) {
  return Registry<Prefetcher>::instance().all().at(policy).parameters;
}

bool has_parameter(const std::string& policy, const std::string& name) {
  const auto& parameters = parameters_of(policy);
  return std::any_of(parameters.begin(), parameters.end(),
                     [&](const Parameter& parameter) { return parameter.name == name; });
}

// Every predictor but `none`, one and several visits ahead.
std::vector<Json> all_predictors() {
  std::vector<Json> all;
  for (const std::string& policy : Registry<Prefetcher>::instance().names()) {
    if (policy == "none") continue;
    all.push_back({{"policy", policy}});
    if (!has_parameter(policy, "distance")) continue;
    all.push_back({{"policy", policy}, {"distance", 3}});
  }
  return all;
}

template <class Check>
void for_every_predictor(Check&& check) {
  for (const Json& prefetch : all_predictors()) {
    const std::string shown = prefetch.dump();
    CAPTURE(shown);
    check(prefetch);
  }
}

// Watches a run from outside.
class Watcher final : public RunObserver {
 public:
  Watcher(RunPlan& plan, std::uint64_t cap) : plan_(plan), cap_(cap) {}

  void on_visit(const Pass& /*pass*/, LayerId layer, const VisitOutcome& visit,
                TimePoint /*at*/) override {
    const ExpertCache& cache = plan_.session().cache();
    std::uint64_t in_flight = 0;
    for (std::size_t key = 0; key < kLayers * kExperts; ++key) {
      const bool under_way = cache.residency(static_cast<ExpertKey>(key)) == Residency::kInFlight;
      in_flight += under_way ? plan_.expert_bytes()[key] : 0;
    }
    if (in_flight > cap_) ++over_cap;
    std::vector<ExpertKey> named(visit.predicted.begin(), visit.predicted.end());
    std::sort(named.begin(), named.end());
    if (std::adjacent_find(named.begin(), named.end()) != named.end()) ++named_twice;
    for (const ExpertKey key : named) {
      if (layer_of(key, kExperts) != layer) ++of_another_layer;
    }
  }
  void on_pass(const PassRecord& record) override {
    flash_bytes += record.flash.bytes;
    Duration parts{};
    for (const Duration part : record.parts) parts += part;
    Duration path{};
    for (const Duration part : record.path) path += part;
    if (parts != record.end - record.start) ++broken_parts;
    if (path != record.end - record.start) ++broken_paths;
    if (record.dram_bytes != record.compute_bytes + record.flash.bytes) ++broken_dram;
  }
  void on_job(const JobSpan& job) override {
    if (job.part == TimePart::kAdmission && job.speculative) ++speculative_admissions;
  }

  std::size_t over_cap = 0;
  std::size_t named_twice = 0;
  std::size_t of_another_layer = 0;
  std::size_t broken_parts = 0;
  std::size_t broken_paths = 0;
  std::size_t broken_dram = 0;
  std::uint64_t flash_bytes = 0;
  std::uint64_t speculative_admissions = 0;

 private:
  RunPlan& plan_;
  std::uint64_t cap_;
};

void check_accounts(Scenario& scenario, std::uint64_t cap) {
  const auto plan = scenario.plan();
  Watcher watcher(*plan, cap);
  plan->simulation()->run(0, plan->schedule().passes.size(), &watcher, true);
  CHECK_NOTHROW(plan->simulation()->drain());
  const CacheCounts& cache = plan->session().accounting().counts();
  const PrefetchCounts& p = plan->session().prefetched();
  CHECK(watcher.over_cap == 0);
  CHECK(watcher.named_twice == 0);
  CHECK(watcher.of_another_layer == 0);
  CHECK(watcher.broken_parts == 0);
  CHECK(watcher.broken_paths == 0);
  // DRAM carries what flash delivers, wanted or not.
  CHECK(watcher.broken_dram == 0);
  CHECK(watcher.flash_bytes == cache.demand_bytes + p.issued_bytes);
  CHECK(p.late == cache.late);
  CHECK(p.useful_bytes == p.useful * plan->expert_bytes()[0]);
  CHECK(p.late_bytes == p.late * plan->expert_bytes()[0]);
  CHECK(p.useful_bytes + p.late_bytes + p.wasted_bytes <= p.issued_bytes);
  // Whatever arrives without being waited for is admitted beside the visits.
  CHECK(watcher.speculative_admissions == p.issued - p.late);
}

}  // namespace

TEST_SUITE("property/prefetch") {
  TEST_CASE("what is read ahead is capped, charged and accounted for") {
    for_every_predictor([](const Json& prefetch) {
      Scenario scenario = rich_scenario();
      scenario.config["prefetch"] = prefetch;
      check_accounts(scenario, 64 * kMiB);
      scenario.config["execution"]["overlap"] = "projection";
      scenario.config["cache"] = {{"capacity_experts", 20}, {"scope", "global"}};
      scenario.config["prefetch"]["max_outstanding_mib"] = 3;  // four experts
      check_accounts(scenario, 3 * kMiB);
    });
  }

  TEST_CASE("with the slots of plec too, whatever predicts the path") {
    for_every_predictor([](const Json& prefetch) {
      for (const char* predictor :
           {"previous_token", "previous_layer", "frequency", "noisy_oracle", "oracle"}) {
        CAPTURE(predictor);
        Scenario scenario = rich_scenario(40);
        scenario.config["prefetch"] = prefetch;
        scenario.config["execution"]["overlap"] = "expert";
        scenario.config["cache"] = {
            {"capacity_experts", 20},
            {"scope", "global"},
            {"eviction",
             {{"policy", "plec"}, {"predictor", predictor}, {"plec_split", "proportional"}}}};
        check_accounts(scenario, 64 * kMiB);
        scenario.config["cache"]["scope"] = "layer";
        scenario.config["cache"]["capacity_experts"] = 6;
        scenario.config["execution"]["overlap"] = "projection";
        check_accounts(scenario, 64 * kMiB);
      }
    });
  }

  TEST_CASE("with nothing allowed to be outstanding a run is that without prefetch") {
    Scenario scenario = rich_scenario();
    const Json none = result_json(scenario.run());
    for_every_predictor([&](Json prefetch) {
      prefetch["max_outstanding_mib"] = 0;
      scenario.config["prefetch"] = prefetch;
      const Json result = result_json(scenario.run());
      CHECK(result.at("prefetch").at("issued") == 0);
      for (const char* block : {"cache", "routing"}) {
        CHECK(result.at(block) == none.at(block));
      }
      for (const char* key : {"reads", "bytes"}) {
        CHECK(result.at("flash").at(key) == none.at("flash").at(key));
      }
      const double predictor = result.at("time_ms_per_token").at("predictor");
      const double mean = result.at("throughput").at("tpot_ms").at("mean");
      const double without = none.at("throughput").at("tpot_ms").at("mean");
      if (predictor == 0) {
        CHECK(result.at("throughput") == none.at("throughput"));
        CHECK(result.at("flash") == none.at("flash"));
      }
      CHECK(mean >= without);
      CHECK(mean <= without + predictor + 1e-9);
    });
  }

  TEST_CASE("equal inputs give equal bytes, with predictors that draw and that learn") {
    for_every_predictor([](const Json& prefetch) {
      Scenario scenario = rich_scenario(40);
      scenario.config["prefetch"] = prefetch;
      CHECK(result_json(scenario.run()).dump() == result_json(scenario.run()).dump());
    });
  }

  TEST_CASE("predictions allocate nothing in steady state") {
    for_every_predictor([](const Json& prefetch) {
      Scenario scenario = rich_scenario(500, 7);
      scenario.config["prefetch"] = prefetch;
      scenario.config["cache"] = {
          {"capacity_experts", 24}, {"scope", "global"}, {"eviction", {{"policy", "plec"}}}};
      const auto plan = scenario.plan();
      RunMetrics metrics(*plan, false);
      plan->simulation()->run(0, 200, &metrics, false);
      const std::size_t before = allocations();
      plan->simulation()->run(200, 500, &metrics, false);
      CHECK(allocations() - before == 0);
    });
  }

  TEST_CASE("recall and precision are those of the prediction, whatever is read") {
    Scenario scenario = rich_scenario(400, 3);
    const auto prediction = [&](const Json& prefetch) {
      scenario.config["prefetch"] = prefetch;
      return scenario.run().result.prediction;
    };
    for (const double cap : {0.0, 64.0}) {
      CAPTURE(cap);
      const PredictionResult oracle =
          prediction({{"policy", "oracle"}, {"max_outstanding_mib", cap}, {"distance", 2}});
      CHECK(oracle.recall == 1);
      CHECK(oracle.precision == 1);
      CHECK(oracle.visits == 390 * kLayers);
      const PredictionResult noisy = prediction({{"policy", "noisy_oracle"},
                                                 {"recall", 0.85},
                                                 {"precision", 0.6},
                                                 {"max_outstanding_mib", cap}});
      // 6240 experts ran: four standard deviations are 0.018, and 0.022 for the precision.
      CHECK(std::abs(noisy.recall - 0.85) < 0.018);
      CHECK(std::abs(noisy.precision - 0.6) < 0.022);
      // The recorded look-ahead is exact here, but the first layer has none before it.
      const PredictionResult gate =
          prediction({{"policy", "next_layer_gate"}, {"max_outstanding_mib", cap}});
      CHECK(gate.by_layer == std::vector{0.0, 1.0, 1.0, 1.0});
      CHECK(gate.precision == 1);
      CHECK(gate.predicted == 390 * (kLayers - 1));
    }
  }

  TEST_CASE("the result names predictions and reads apart") {
    Scenario scenario = rich_scenario();
    scenario.config["prefetch"] = {{"policy", "oracle"}};
    const RunResult result = scenario.run().result;
    const Json block = result_json(scenario.run()).at("prefetch");
    const PrefetchCounts& p = result.prefetch;
    CHECK(block.at("recall") == 1);
    CHECK(block.at("predicted_visits") == 1);
    CHECK(block.at("issued_bytes") == p.issued_bytes);
    CHECK(block.at("useful_bytes") == p.useful_bytes);
    CHECK(block.at("late_bytes") == p.late_bytes);
    CHECK(block.at("recall_by_layer").size() == kLayers);
    const auto ratio = [](std::uint64_t a, std::uint64_t b) {
      return static_cast<double>(a) / static_cast<double>(b);
    };
    CHECK(block.at("read_recall") == ratio(p.useful + p.late, p.useful + result.cache.misses));
    CHECK(block.at("named") == result.prediction.named);
    CHECK(p.issued > 0);
    scenario.config["prefetch"] = {{"policy", "none"}};
    const Json none = result_json(scenario.run()).at("prefetch");
    CHECK(none.at("recall") == 0);
    CHECK(none.at("precision") == 0);
    CHECK(none.at("recall_by_layer").empty());
  }
}

}  // namespace moesim::test
