// Reads that land in a bounce buffer: what the copy takes, whose time it is, and what DRAM sees.
#include <algorithm>

#include "metrics/run_metrics.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr std::uint64_t kSlice = 256 * 512 * 2;

Scenario bounced_scenario(std::size_t tokens, std::size_t lanes) {
  Scenario scenario(tokens);
  scenario.config["execution"]["lanes"] = lanes;
  scenario.config["device"]["flash"]["bounce_gbps"] = 0.5;
  return scenario;
}

Duration part(const TimeResult& time, TimePart which) {
  return time.parts[static_cast<std::size_t>(which)];
}
Duration part(const TimeResult& time, PathPart which) {
  return time.path[static_cast<std::size_t>(which)];
}

class Recorder final : public RunObserver {
 public:
  void on_read(const ReadSpan& read) override { reads.push_back(read); }
  std::vector<ReadSpan> reads;
};

std::vector<ReadSpan> reads_of(const Scenario& scenario) {
  const auto plan = scenario.plan();
  Recorder recorder;
  plan->simulation()->run(0, plan->schedule().passes.size(), &recorder, true);
  plan->simulation()->drain();
  return recorder.reads;
}

std::string error_of(const Scenario& scenario) {
  return user_error_of([&] { static_cast<void>(scenario.plan()); });
}

}  // namespace

TEST_SUITE("engine/bounce") {
  TEST_CASE("one lane: each read is followed by its copy, and then by the next read") {
    const Duration read = from_us(110) + transfer_time(kSlice, to_rate(1.0));
    const Duration copy = transfer_time(kSlice, to_rate(0.5));
    const TimeResult time = *bounced_scenario(1, 1).run().result.time;
    CHECK(part(time, TimePart::kFlashStall) == 48 * (read + copy));
    CHECK(part(time, PathPart::kFlashHost) == 48 * (from_us(100) + copy));
    CHECK(part(time, PathPart::kFlashDevice) == 48 * (read - from_us(100)));
    CHECK(time.flash.lane == 48 * read);
    CHECK(time.flash.copy == 48 * copy);
    Scenario direct = bounced_scenario(1, 1);
    direct.config["execution"]["bounce"] = false;
    CHECK(direct.run().result.time->wall == time.wall - 48 * copy);
  }

  TEST_CASE("spans name the end of the service and of the copy, and lanes follow on the latter") {
    const std::vector<ReadSpan> reads = reads_of(bounced_scenario(2, 2));
    REQUIRE(reads.size() > 40);
    std::vector<TimePoint> free(2);
    for (const ReadSpan& read : reads) {  // in the order of arrival
      CHECK(read.end - read.service_end == transfer_time(kSlice, to_rate(0.5)));
      CHECK(read.lane_start >= free[read.lane]);
      free[read.lane] = read.end;
    }
    Scenario direct = bounced_scenario(2, 2);
    direct.config["execution"]["bounce"] = false;
    for (const ReadSpan& read : reads_of(direct)) CHECK(read.end == read.service_end);
  }

  TEST_CASE("copies overlap with the device, so that lanes hide them") {
    const auto stall = [](std::size_t lanes, bool bounce) {
      Scenario scenario = bounced_scenario(4, lanes);
      scenario.config["execution"]["bounce"] = bounce;
      return to_ms(part(*scenario.run().result.time, TimePart::kFlashStall));
    };
    CHECK(stall(1, true) / stall(1, false) > 2);
    // Four lanes: what is left is the tail of each layer.
    CHECK(stall(4, true) / stall(4, false) < 1.4);
    CHECK(stall(4, true) > stall(4, false));
  }

  TEST_CASE("slices are bounced where the device has a rate, contiguous experts are not") {
    const auto resolved = [](const Scenario& scenario) {
      return scenario.plan()->config().resolved.at("execution").at("bounce");
    };
    Scenario scenario = bounced_scenario(1, 1);
    CHECK(resolved(scenario) == true);
    scenario.config["execution"]["expert_layout"] = "contiguous";
    CHECK(resolved(scenario) == false);
    scenario.config["execution"]["bounce"] = true;
    CHECK(resolved(scenario) == true);
    scenario.config["execution"].erase("expert_layout");
    scenario.config["execution"]["bounce"] = nullptr;
    CHECK(resolved(scenario) == true);
    scenario.config["execution"]["bounce"] = false;
    CHECK(resolved(scenario) == false);
    scenario.config["device"]["flash"].erase("bounce_gbps");
    CHECK(resolved(scenario) == false);
    scenario.config["execution"]["bounce"] = nullptr;
    CHECK(resolved(scenario) == nullptr);
    scenario.config["execution"]["bounce"] = true;
    CHECK(contains(error_of(scenario),
                   "/execution/bounce: expected false or null, because the device has no "
                   "flash.bounce_gbps"));
    scenario.config["execution"]["bounce"] = "yes";
    CHECK(contains(error_of(scenario), "/execution/bounce: expected "));
  }

  TEST_CASE("DRAM sees a bounced byte as often as the device says, an aligned one once") {
    const auto dma_j = [](const Json& bounce, bool has_rate, double factor) {
      Scenario scenario = bounced_scenario(2, 2);
      if (!has_rate) scenario.config["device"]["flash"].erase("bounce_gbps");
      scenario.config["device"]["dram"]["dma_factor"] = factor;
      scenario.config["execution"]["bounce"] = bounce;
      return scenario.run().result.energy->by_component.at("dram_dma");
    };
    const double once = dma_j(false, true, 3);
    CHECK(dma_j(true, true, 3) == doctest::Approx(3 * once));
    CHECK(dma_j(true, true, 1) == doctest::Approx(once));
    CHECK(dma_j(nullptr, false, 3) == doctest::Approx(3 * once));  // nothing is said
    CHECK(dma_j(false, false, 3) == doctest::Approx(once));
  }

  TEST_CASE("DMA of bounced reads takes more of the bus from the cores") {
    Scenario scenario = bounced_scenario(8, 2);
    scenario.config["execution"]["overlap"] = "expert";
    scenario.config["device"]["dram"]["dma_factor"] = 10;
    scenario.config["device"]["flash"]["bounce_gbps"] = 1e5;  // the copy itself takes no time
    const Duration bounced = scenario.run().result.time->wall;
    scenario.config["execution"]["bounce"] = false;
    CHECK(scenario.run().result.time->wall < bounced);
  }

  TEST_CASE("a demand read waits behind speculative reads that hold the lanes, copies included") {
    // Expert 0 of each next layer is predicted, and wrong: the demand finds the lane taken.
    Scenario scenario = bounced_scenario(12, 1);
    scenario.config["prefetch"] = {{"policy", "previous_layer"}};
    const auto blocked = [&](const char* layout, bool bounce) {
      scenario.config["execution"]["expert_layout"] = layout;
      scenario.config["execution"]["bounce"] = bounce;
      const std::vector<ReadSpan> reads = reads_of(scenario);
      Duration longest{};
      for (std::size_t i = 1; i < reads.size(); ++i) {
        const bool behind = !reads[i].speculative && reads[i - 1].speculative &&
                            reads[i].lane_start == reads[i - 1].end;
        if (behind) longest = std::max(longest, reads[i - 1].end - reads[i - 1].lane_start);
      }
      return longest;
    };
    const Duration slice = from_us(110) + transfer_time(kSlice, to_rate(1.0));
    const Duration whole = from_us(110) + transfer_time(3 * kSlice, to_rate(1.0));
    CHECK(blocked("slices", false) == slice);
    CHECK(blocked("contiguous", false) == whole);
    CHECK(blocked("slices", true) == slice + transfer_time(kSlice, to_rate(0.5)));
  }

  TEST_CASE("the result tells lane time from copies") {
    const RunReport report = bounced_scenario(8, 3).run();
    const Json flash = result_json(report).at("flash");
    const TimeResult& time = *report.result.time;
    const double wall_ms = to_ms(time.wall);
    CHECK(flash.at("lane_ms_per_token") == doctest::Approx(to_ms(time.flash.lane) / 8));
    CHECK(flash.at("copy_ms_per_token") == doctest::Approx(to_ms(time.flash.copy) / 8));
    CHECK(flash.at("copy_ms_per_token").get<double>() > 0);
    CHECK(flash.at("mean_in_flight").get<double>() * wall_ms / 8 ==
          doctest::Approx(flash.at("lane_ms_per_token").get<double>() +
                          flash.at("copy_ms_per_token").get<double>()));
  }
}

}  // namespace moesim::test
