// Times that can be written down: one token on a cold cache through one lane, and decoding in which
// everything is there.
#include <algorithm>
#include <cmath>

#include "support/scenario.h"

namespace moesim::test {

namespace {

// What one token of the small model moves through the cores, from its shapes, in bytes at 16 bits.
struct SmallBytes {
  std::uint64_t expert = 3 * 256 * 512 * 2;
  std::uint64_t router = 256 * 16 * 2;
  std::uint64_t head = 256 * 1000 * 2;
  // q and o: 256 x 256, k and v: 256 x 128; two norms of 256 a layer.
  std::uint64_t mixer = (2 * 256 * 256 + 2 * 256 * 128 + 2 * 256) * 2;
  std::uint64_t kv_per_token = 2 * 2 * 64 * 2;
};

Duration at_dram_rate(std::uint64_t bytes) { return transfer_time(bytes, to_rate(20.0)); }

// Everything but experts of token number `position` (from 0). The final norm is too small to be
// read apart; the model counts it with the mixers or the head, so the head is not compared bit for
// bit where it matters: both tests subtract the same run.
Duration dense_time(std::uint32_t position) {
  const SmallBytes b;
  const std::uint64_t kv = (position + 1) * b.kv_per_token;
  return 4 * (from_us(50) + at_dram_rate(b.mixer + kv) + at_dram_rate(b.router)) +
         at_dram_rate(b.head);
}

Duration admission() {
  return from_us(std::ceil(static_cast<double>(SmallBytes{}.expert) / 4096.0) * 0.5);
}

}  // namespace

TEST_SUITE("engine/closed_form") {
  TEST_CASE("one token, cold cache, one lane: every part is the sum of its pieces") {
    Scenario scenario(1);
    scenario.config["execution"]["lanes"] = 1;
    const RunReport report = scenario.run();
    const TimeResult& time = *report.result.time;
    const SmallBytes b;
    // Three reads an expert, one after the other: host delay, command, bytes at 1 GB/s.
    const std::uint64_t slice = b.expert / 3;
    const Duration read = from_us(100) + from_us(10) + transfer_time(slice, to_rate(1.0));
    const Duration reads = 4 * 4 * 3 * read;
    const Duration experts = 4 * 4 * at_dram_rate(b.expert);
    const Duration admitted = 4 * 4 * admission();
    CHECK(time.parts[static_cast<std::size_t>(TimePart::kFlashStall)] == reads);
    CHECK(time.parts[static_cast<std::size_t>(TimePart::kAdmission)] == admitted);
    CHECK(time.parts[static_cast<std::size_t>(TimePart::kOverhead)] == 4 * from_us(50));
    CHECK(time.wall == dense_time(0) + reads + admitted + experts);
    CHECK(report.result.cache.misses == 16);
  }

  TEST_CASE("all experts resident: the token takes what DRAM gives") {
    Scenario scenario(2);
    scenario.config["trace"]["warmup_tokens"] = 1;
    scenario.config["routing"] = {{"policy", "top_k"}};
    scenario.config["cache"] = {{"capacity_experts", 16}};
    // The second token repeats the first, so that it hits everywhere.
    TraceData trace = random_logits({1, 4, 16}, 4, 3);
    trace.logits.insert(trace.logits.end(), trace.logits.begin(), trace.logits.begin() + 64);
    trace.shape.tokens = 2;
    Scenario repeated(trace);
    repeated.config = scenario.config;
    const RunReport report = repeated.run();
    CHECK(report.result.cache.misses == 0);
    CHECK(report.result.time->wall == dense_time(1) + 4 * 4 * at_dram_rate(SmallBytes{}.expert));
    CHECK(report.result.time->flash.bytes == 0);
  }

  TEST_CASE("a kernel slower than DRAM bounds the products of its format") {
    Scenario scenario(1);
    scenario.config["weights"] = {{"expert_bits", 4}};
    scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 5.0;
    const Duration slow = scenario.run().result.time->parts[0];
    const std::uint64_t expert = SmallBytes{}.expert / 4;
    scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 10.0;
    const Duration fast = scenario.run().result.time->parts[0];
    CHECK(slow - fast ==
          16 * (transfer_time(expert, to_rate(5.0)) - transfer_time(expert, to_rate(10.0))));
    // Half the threads: half the kernel rate.
    scenario.config["execution"]["threads"] = 2;
    CHECK(scenario.run().result.time->parts[0] == slow);
  }

  TEST_CASE("one miss and three hits: what each overlap hides") {
    // The second token repeats the first but for one expert of the first layer.
    TraceData trace = random_logits({1, 4, 16}, 4, 3);
    const std::vector<float> first = trace.logits;
    trace.logits.insert(trace.logits.end(), first.begin(), first.end());
    trace.shape.tokens = 2;
    const auto row = trace.logits.begin() + 64;
    *std::min_element(row, row + 16) = *std::max_element(row, row + 16) + 1;
    Scenario scenario(trace);
    scenario.config["trace"]["warmup_tokens"] = 1;
    scenario.config["cache"] = {{"capacity_experts", 16}};
    scenario.config["execution"]["lanes"] = 3;
    const SmallBytes b;
    const std::uint64_t slice = b.expert / 3;
    const Duration expert = at_dram_rate(b.expert);
    // Three lanes spend their host delay together; the device serves one slice after the other.
    const Duration device = from_us(10) + transfer_time(slice, to_rate(1.0));
    const Duration all_slices = from_us(100) + 3 * device;
    const Duration computed = dense_time(1) + 16 * expert + admission();
    const auto wall = [&](const char* overlap) {
      scenario.config["execution"]["overlap"] = overlap;
      const RunReport report = scenario.run();
      CHECK(report.result.cache.misses == 1);
      return report.result.time->wall;
    };
    CHECK(wall("none") == computed + all_slices);
    // The three resident experts run meanwhile, and flash takes its share of DRAM from them: with
    // 1 of 20 GB/s, what they lose is what flash moves while they run.
    const Duration hidden = wall("none") - wall("expert");
    CHECK(hidden > Duration{0});
    CHECK(hidden <= 3 * expert);
    CHECK(to_us(hidden) == doctest::Approx(to_us(3 * expert)).epsilon(0.08));
    // Gate and up are there one slice earlier, so their product is hidden too, but for the last.
    CHECK(wall("projection") < wall("expert"));
  }

  TEST_CASE("a cache of capacity 0 reads every expert and admits none") {
    Scenario scenario(3);
    scenario.config["cache"] = {{"capacity_experts", 0}};
    const RunReport report = scenario.run();
    CHECK(report.result.cache.hits == 0);
    CHECK(report.result.cache.misses == 3 * 16);
    CHECK(report.result.time->parts[static_cast<std::size_t>(TimePart::kAdmission)] == Duration{0});
  }
}

}  // namespace moesim::test
