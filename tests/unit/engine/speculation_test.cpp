// What reading ahead costs, step by step: predictor time, the order of reads, the cap, admission,
// and what an eviction policy gives up as experts are computed.
#include <algorithm>
#include <cmath>

#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr std::uint64_t kExpertBytes = 3 * 256 * 512 * 2;

// One expert per visit: [tokens][4 layers].
TraceData path_trace(const std::vector<std::vector<std::size_t>>& path) {
  TraceData data;
  data.shape = {path.size(), 4, 16};
  data.logits_dtype = "F32";
  data.metadata = {{"model", "small"}, {"top_k", "1"}, {"gate", "A"}};
  for (const auto& token : path) {
    for (const std::size_t expert : token) {
      for (std::size_t e = 0; e < 16; ++e) data.logits.push_back(e == expert ? 10.0F : 0.0F);
    }
  }
  return data;
}

Scenario path_scenario(const std::vector<std::vector<std::size_t>>& path) {
  Scenario scenario(path_trace(path));
  scenario.config["execution"]["lanes"] = 1;
  return scenario;
}

class Recorder final : public RunObserver {
 public:
  void on_read(const ReadSpan& read) override { reads.push_back(read); }
  void on_job(const JobSpan& job) override { jobs.push_back(job); }
  std::vector<ReadSpan> reads;
  std::vector<JobSpan> jobs;
};

Recorder record(const Scenario& scenario) {
  const auto plan = scenario.plan();
  Recorder recorder;
  plan->simulation()->run(0, plan->schedule().passes.size(), &recorder, true);
  plan->simulation()->drain();
  return recorder;
}

// "0d" a demand read of layer 0, "1s" a speculative one of layer 1.
std::vector<std::string> names(const std::vector<ReadSpan>& reads) {
  std::vector<std::string> result;
  for (const ReadSpan& read : reads) {
    result.push_back(std::to_string(index(read.layer)) + (read.speculative ? "s" : "d"));
  }
  return result;
}

}  // namespace

TEST_SUITE("engine/speculation") {
  TEST_CASE(
      "demand goes before what was read ahead, and a read that holds the lane is not recalled") {
    // Always wrong: expert 0 of layer 1 is read ahead while layer 1 needs expert 5.
    Scenario scenario = path_scenario({{0, 5, 2, 9}});
    scenario.config["prefetch"] = {{"policy", "previous_layer"}};
    const Recorder run = record(scenario);
    const std::vector<std::string> order = names(run.reads);
    // While layer 0 computes, the first of the three reads ahead takes the lane. It ends, then the
    // demand of layer 1 goes before the other two.
    REQUIRE(order.size() == 3 * (4 + 4));
    CHECK(std::vector(order.begin(), order.begin() + 7) ==
          std::vector<std::string>{"0d", "0d", "0d", "1s", "1d", "1d", "1d"});
    const Duration alone = from_us(110) + transfer_time(kExpertBytes / 3, to_rate(1.0));
    CHECK(run.reads[3].end - run.reads[3].lane_start == alone);
    CHECK(run.reads[4].lane_start == run.reads[3].end);
  }

  TEST_CASE("a demanded expert that is on its way is not read twice") {
    Scenario scenario = path_scenario({{0, 5, 2, 9}});
    scenario.config["prefetch"] = {{"policy", "oracle"}};
    const auto plan = scenario.plan();
    const RunResult result = execute(*plan, {});
    CHECK(result.prefetch.issued == 3);
    CHECK(result.prefetch.late == 3);
    CHECK(result.time->flash.bytes == 4 * kExpertBytes);
    CHECK(result.cache.demand_bytes == kExpertBytes);
    CHECK(result.prefetch.late_bytes == 3 * kExpertBytes);
    // Reading ahead takes the time of a layer off the wait for each of the three.
    Scenario plain = path_scenario({{0, 5, 2, 9}});
    CHECK(result.time->wall < plain.run().result.time->wall);
  }

  TEST_CASE("a predictor's matrices take compute time, whether anything is read or not") {
    // The second token finds everything, so nothing else draws on DRAM.
    Scenario scenario = path_scenario({{0, 5, 2, 9}, {0, 5, 2, 9}});
    scenario.config["trace"]["warmup_tokens"] = 1;
    scenario.config["cache"] = {{"capacity_experts", 16}};
    const Duration without = scenario.run().result.time->wall;
    scenario.config["prefetch"] = {
        {"policy", "noisy_oracle"}, {"predictor_mib", 1}, {"max_outstanding_mib", 0}};
    const TimeResult time = *scenario.run().result.time;
    const Duration predictor = 4 * transfer_time(kMiB, to_rate(20.0));
    CHECK(time.parts[static_cast<std::size_t>(TimePart::kPredictor)] == predictor);
    CHECK(time.wall == without + predictor);
    CHECK(time.path[static_cast<std::size_t>(PathPart::kPredictor)] == predictor);
  }

  TEST_CASE("next_layer_gate reads one router matrix per layer but the last") {
    TraceData trace = path_trace({{0, 5, 2, 9}, {0, 5, 2, 9}});
    trace.next_layer_logits = trace.logits;
    Scenario scenario(trace);
    scenario.config["trace"]["warmup_tokens"] = 1;
    scenario.config["cache"] = {{"capacity_experts", 16}};
    scenario.config["prefetch"] = {{"policy", "next_layer_gate"}, {"max_outstanding_mib", 0}};
    const TimeResult time = *scenario.run().result.time;
    CHECK(time.parts[static_cast<std::size_t>(TimePart::kPredictor)] ==
          3 * transfer_time(256 * 16 * 2, to_rate(20.0)));
  }

  TEST_CASE("reads begin when the predictor has ended") {
    Scenario scenario = path_scenario({{0, 5, 2, 9}, {0, 5, 2, 9}});
    scenario.config["prefetch"] = {
        {"policy", "noisy_oracle"}, {"recall", 1}, {"precision", 1}, {"predictor_mib", 100}};
    const Recorder run = record(scenario);
    const auto predicted = std::find_if(run.jobs.begin(), run.jobs.end(), [](const JobSpan& job) {
      return job.part == TimePart::kPredictor;
    });
    REQUIRE(predicted != run.jobs.end());
    const auto ahead = std::find_if(run.reads.begin(), run.reads.end(),
                                    [](const ReadSpan& read) { return read.speculative; });
    REQUIRE(ahead != run.reads.end());
    // 100 MiB take 5 ms, longer than the three demand reads.
    CHECK(ahead->lane_start == predicted->end);
    CHECK(predicted->hidden_layer == 0);
    CHECK(std::count_if(run.jobs.begin(), run.jobs.end(), [](const JobSpan& job) {
            return job.part == TimePart::kPredictor && job.hidden_layer == 3;
          }) == 2);
    CHECK(run.reads[0].lane_start == predicted->start);
  }

  TEST_CASE("outstanding bytes are capped, in whole experts") {
    Scenario scenario = path_scenario({{0, 5, 2, 9}});
    const auto order = [&](double cap_mib) {
      scenario.config["prefetch"] = {
          {"policy", "oracle"}, {"distance", 3}, {"max_outstanding_mib", cap_mib}};
      return names(record(scenario).reads);
    };
    // A visit that needs what is on its way turns the reads that still wait into demand reads. One
    // expert at a time: while that of layer 1 is waited for, that of layer 2 may not be read ahead.
    CHECK(order(0.75) == std::vector<std::string>{"0d", "0d", "0d", "1s", "1d", "1d", "2d", "2d",
                                                  "2d", "3s", "3d", "3d"});
    CHECK(order(1.5) == std::vector<std::string>{"0d", "0d", "0d", "1s", "1d", "1d", "2s", "2d",
                                                 "2d", "3s", "3d", "3d"});
    CHECK(order(0.7) == std::vector<std::string>{"0d", "0d", "0d", "1d", "1d", "1d", "2d", "2d",
                                                 "2d", "3d", "3d", "3d"});
  }

  TEST_CASE("every expert that was read ahead is admitted, useful or not") {
    Scenario scenario = path_scenario({{0, 5, 2, 9}, {1, 6, 3, 10}, {2, 7, 4, 11}});
    scenario.config["cache"] = {{"capacity_experts", 16}};
    scenario.config["device"]["flash"]["bw_gbps"] = 1000;
    scenario.config["device"]["flash"]["host_delay_us"] = 1;
    scenario.config["device"]["flash"]["dev_cmd_us"] = 0;
    scenario.config["prefetch"] = {{"policy", "previous_layer"}};
    const auto plan = scenario.plan();
    const RunResult result = execute(*plan, {});
    const Duration one = from_us(std::ceil(static_cast<double>(kExpertBytes) / 4096.0) * 0.5);
    const auto admitted = static_cast<std::int64_t>(result.cache.misses + result.prefetch.issued -
                                                    result.prefetch.late);
    CHECK(result.prefetch.issued > result.prefetch.useful + result.prefetch.late);
    CHECK(result.time->parts[static_cast<std::size_t>(TimePart::kAdmission)] == admitted * one);
  }

  TEST_CASE("a prediction at the last layer is for the first layer of the next token") {
    Scenario scenario = path_scenario({{0, 5, 2, 9}, {1, 5, 2, 9}});
    scenario.config["prefetch"] = {{"policy", "oracle"}};
    scenario.config["device"]["flash"]["host_delay_us"] = 1;
    scenario.config["cache"] = {{"capacity_experts", 16}};
    const Recorder run = record(scenario);
    const auto first = std::find_if(run.reads.begin(), run.reads.end(), [](const ReadSpan& read) {
      return read.speculative && index(read.layer) == 0;
    });
    REQUIRE(first != run.reads.end());
    CHECK(index(first->expert) == 1);
  }

  TEST_CASE("a token's id is known before its first layer") {
    TraceData trace = path_trace({{3, 5, 2, 9}, {0, 1, 1, 1}, {3, 5, 2, 9}});
    trace.token_ids = {7, 8, 7};
    Scenario scenario(trace);
    scenario.config["trace"]["warmup_tokens"] = 2;
    scenario.config["cache"] = {{"capacity_experts", 4}, {"scope", "global"}};
    scenario.config["prefetch"] = {{"policy", "token_table"}};
    const RunResult result = scenario.run().result;
    CHECK(result.prediction.recall == 1);
    CHECK(result.prediction.predicted == 4);
    CHECK(result.prefetch.issued == 4);
  }

  TEST_CASE("plec: the slot of a computed expert is refilled at once") {
    // Two slots for all layers, the truth predicted: nothing else could have been read ahead while
    // the last layers' experts hold both.
    const std::vector<std::vector<std::size_t>> path = {{0, 5, 2, 9}, {1, 6, 3, 10}, {0, 5, 2, 9}};
    Scenario scenario = path_scenario(path);
    scenario.config["cache"] = {{"capacity_experts", 2},
                                {"scope", "global"},
                                {"eviction", {{"policy", "plec"}, {"predictor", "oracle"}}}};
    scenario.config["prefetch"] = {{"policy", "oracle"}, {"distance", 4}};
    const auto plan = scenario.plan();
    const RunResult result = execute(*plan, {});
    CHECK(result.prefetch.issued == 11);  // all but the first visit's
    CHECK(result.prefetch.wasted_bytes == 0);
    CHECK(result.cache.misses == 1 + result.prefetch.late);
    CHECK(result.time->flash.bytes == 12 * kExpertBytes);
  }

  TEST_CASE("a run says when its predictor was trained on what is measured") {
    Scenario scenario(40, 3);
    scenario.config["trace"]["warmup_tokens"] = 10;
    const auto warning = [&](const Json& prefetch) {
      scenario.config["prefetch"] = prefetch;
      for (const std::string& line : scenario.run().result.warnings) {
        if (contains(line, "was trained on")) return line;
      }
      return std::string();
    };
    CHECK(warning({{"policy", "transition"}}).empty());
    CHECK(warning({{"policy", "transition"}, {"train_tokens", 10}}).empty());
    CHECK(warning({{"policy", "frequency"}}).empty());
    CHECK(contains(warning({{"policy", "transition"}, {"train_tokens", 15}}),
                   "prefetch transition was trained on 5 of the 30 measured tokens"));
    CHECK(contains(warning({{"policy", "frequency"}, {"train_fraction", 1}}),
                   "prefetch frequency was trained on 30 of the 30 measured tokens"));
  }

  TEST_CASE("without a device or without room there is nothing to read ahead") {
    Scenario scenario(20, 3);
    scenario.config["prefetch"] = {{"policy", "previous_token"}};
    scenario.config["cache"] = {{"capacity_experts", 0}};
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/prefetch/policy: expected none, because a cache of capacity 0"));
    scenario.config["cache"] = {{"capacity_experts", 8}};
    scenario.config["device"] = nullptr;
    CHECK(contains(user_error_of([&] { static_cast<void>(scenario.plan()); }),
                   "/prefetch/policy: expected none, because without a device"));
  }
}

}  // namespace moesim::test
