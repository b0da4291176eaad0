// Weight formats that name the kernel, and experts of which two matrices lie together.
#include "engine/task_costs.h"
#include "support/scenario.h"

namespace moesim::test {
namespace {

constexpr std::uint64_t kExpert = 3 * 256 * 512 * 2;  // 16 bits

Scenario two_kernels() {
  Scenario scenario(8);
  scenario.config["device"]["cpu"]["q4_kernel_gbps"] = 5.0;
  scenario.config["device"]["cpu"]["q8_kernel_gbps"] = 8.0;
  scenario.config["weights"] = Json::object();
  return scenario;
}

BytesPerSecond expert_rate(const Scenario& scenario) {
  return scenario.plan()->costs()->expert(TaskKind::kExpert, kExpert, 1).rate;
}

BytesPerSecond attention_rate(const Scenario& scenario) {
  Task task{};
  task.kind = TaskKind::kAttention;
  return scenario.plan()->costs()->task(task, 0, 1).rate;
}

std::string error_of(const Scenario& scenario) {
  return user_error_of([&] { static_cast<void>(scenario.plan()); });
}

ReadSizes reads_of(const char* layout, const char* overlap, TaskKind kind) {
  Scenario scenario(8);
  scenario.config["execution"]["expert_layout"] = layout;
  scenario.config["execution"]["overlap"] = overlap;
  return scenario.plan()->costs()->reads(kind, kExpert);
}

}  // namespace

TEST_SUITE("engine/weight_formats") {
  TEST_CASE("a format names the kernel, whatever the bits are") {
    Scenario scenario = two_kernels();
    scenario.config["weights"]["expert_bits"] = 8;
    CHECK(expert_rate(scenario) == to_rate(8.0));
    scenario.config["weights"]["expert_format"] = "q4";
    CHECK(expert_rate(scenario) == to_rate(5.0));
    CHECK(attention_rate(scenario) == to_rate(20.0));  // f16 has no kernel: DRAM
    scenario.config["weights"]["dense_format"] = "q8";
    CHECK(attention_rate(scenario) == to_rate(8.0));
    CHECK(expert_rate(scenario) == to_rate(5.0));
  }

  TEST_CASE("a format changes rates only, not bytes") {
    Scenario scenario = two_kernels();
    const auto plan = scenario.plan();
    scenario.config["weights"]["expert_format"] = "q4";
    scenario.config["weights"]["dense_format"] = "q4";
    CHECK(scenario.plan()->expert_bytes() == plan->expert_bytes());
    CHECK(scenario.plan()->costs()->dense_bytes() == plan->costs()->dense_bytes());
  }

  TEST_CASE("a format that the device has no rate for is bound by DRAM, with a warning") {
    Scenario scenario = two_kernels();
    scenario.config["weights"]["expert_format"] = "q5";
    CHECK(expert_rate(scenario) == to_rate(20.0));
    bool warned = false;
    for (const std::string& warning : scenario.run().result.warnings) {
      warned = warned || contains(warning, "q5");
    }
    CHECK(warned);
  }

  TEST_CASE("a format that is none is refused") {
    for (const char* key : {"expert_format", "dense_format"}) {
      Scenario scenario = two_kernels();
      scenario.config["weights"][key] = "Q4_K_M";
      CHECK(contains(error_of(scenario), std::string("/weights/") + key +
                                             ": expected null, f16, f32 or q1 to q15, got "
                                             "\"Q4_K_M\""));
    }
  }

  TEST_CASE("gate and up that lie together are one read of two thirds") {
    const ReadSizes fused = reads_of("fused", "none", TaskKind::kFetch);
    CHECK(fused.count == 2);
    CHECK(fused.bytes[0] + fused.bytes[1] == kExpert);
    CHECK(std::max(fused.bytes[0], fused.bytes[1]) == 2 * (kExpert / 3));
    CHECK(reads_of("slices", "none", TaskKind::kFetch).count == 3);
    CHECK(reads_of("contiguous", "none", TaskKind::kFetch).count == 1);
  }

  TEST_CASE("by projection the two come first, then down") {
    const ReadSizes first = reads_of("fused", "projection", TaskKind::kFetch);
    CHECK(first.count == 1);
    CHECK(first.bytes[0] == 2 * (kExpert / 3));
    const ReadSizes down = reads_of("fused", "projection", TaskKind::kFetchDown);
    CHECK(down.count == 1);
    CHECK(down.bytes[0] == kExpert / 3);
    CHECK(reads_of("slices", "projection", TaskKind::kFetch).count == 2);
  }

  TEST_CASE("on one lane fewer reads save their host delay") {
    const auto stall = [](const char* layout) {
      Scenario scenario(8);
      scenario.config["execution"]["expert_layout"] = layout;
      scenario.config["execution"]["lanes"] = 1;
      scenario.config["cache"] = {{"capacity_experts", 0}};
      return scenario.run().result.time->parts[static_cast<std::size_t>(TimePart::kFlashStall)];
    };
    // 8 tokens, 4 layers, 4 experts; a read costs 100 us on the host and 10 us a command.
    CHECK(stall("slices") - stall("fused") == 8 * 4 * 4 * from_us(110));
    CHECK(stall("fused") - stall("contiguous") == 8 * 4 * 4 * from_us(110));
  }

  TEST_CASE("an unknown layout is refused") {
    Scenario scenario(8);
    scenario.config["execution"]["expert_layout"] = "split";
    CHECK(contains(error_of(scenario), "/execution/expert_layout: "));
    CHECK(contains(error_of(scenario), "slices, fused, contiguous"));
  }
}

}  // namespace moesim::test
