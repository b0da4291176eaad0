#include "hardware/compute_spec.h"

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("hardware/compute_spec") {
  static CpuSpec cpu(const char* text) {
    return read_cpu(Section(parse_json(text, "c"), "d.json", "/cpu"));
  }
  static std::string cpu_error(const char* text) {
    return user_error_of([&] { cpu(text); });
  }
  static std::string agents_error(const char* text) {
    return user_error_of([&] {
      Section device(parse_json(text, "a"), "d.json", "");
      read_agents(device);
      device.reject_unread_keys();
    });
  }

  TEST_CASE("without a table the rate is in proportion up to the threads, then flat") {
    const CpuSpec spec = cpu(R"({"threads": 4})");
    CHECK(spec.thread_share(1) == 0.25);
    CHECK(spec.thread_share(4) == 1);
    CHECK(spec.thread_share(8) == 1);
  }

  TEST_CASE("a table of threads is relative to the device's own, with straight lines between") {
    const CpuSpec spec = cpu(R"({"threads": 4, "thread_scaling": [[2, 1.2], [4, 2], [8, 1]]})");
    CHECK(spec.thread_share(1) == 0.3);
    CHECK(spec.thread_share(2) == 0.6);
    CHECK(spec.thread_share(3) == 0.8);
    CHECK(spec.thread_share(4) == 1);
    CHECK(spec.thread_share(6) == 0.75);
    CHECK(spec.thread_share(8) == 0.5);
    CHECK(spec.thread_share(64) == 0.5);
  }

  TEST_CASE("cores count together") {
    CHECK(cpu(R"({"threads": 4, "cores": [{"count": 2, "ghz": 3.8}, {"count": 6, "ghz": 3.3}]})")
              .core_count() == 8);
    CHECK(cpu(R"({"threads": 4})").core_count() == 0);
  }

  TEST_CASE("cores and tables that are none are refused") {
    CHECK(contains(cpu_error(R"({"threads": 4, "cores": []})"),
                   "d.json: /cpu/cores: expected an array of {\"count\", \"ghz\"}, got []"));
    CHECK(contains(cpu_error(R"({"threads": 4, "cores": [{"count": 0, "ghz": 1}]})"),
                   "/cpu/cores/0/count"));
    CHECK(contains(cpu_error(R"({"threads": 4, "cores": [{"count": 1, "ghz": 1, "big": 1}]})"),
                   "/cpu/cores/0/big"));
    for (const char* table :
         {R"({"threads": 4, "thread_scaling": []})",
          R"({"threads": 4, "thread_scaling": [[4, 1], [4, 2]]})",
          R"({"threads": 4, "thread_scaling": [[4, 0]]})",
          R"({"threads": 4, "thread_scaling": [[4]]})", R"({"threads": 4, "thread_scaling": 4})"}) {
      CHECK(contains(cpu_error(table),
                     "/cpu/thread_scaling: expected [[threads, rate], ...] with rising threads"));
    }
    CHECK(contains(cpu_error(R"({"threads": 4, "clock_ghz": 0})"), "/cpu/clock_ghz"));
  }

  TEST_CASE("agents have a cap, and may have costs, rates and energy") {
    Section device(parse_json(R"({"agents": {"npu": {"dram_gbps": 56, "launch_us": 3, "sync_us": 5,
        "q4_kernel_gbps": 50, "j_per_gb": 0.1}, "gpu": {"dram_gbps": 43}}})",
                              "a"),
                   "d.json", "");
    const auto agents = read_agents(device);
    device.reject_unread_keys();
    REQUIRE(agents.size() == 2);
    const AgentSpec& npu = agents.at("npu");
    CHECK(npu.dram_gbps == 56);
    CHECK(npu.launch_us == 3);
    CHECK(npu.sync_us == 5);
    CHECK(npu.kernel_gbps == KernelRates{{"q4", 50.0}});
    CHECK(npu.j_per_gb == 0.1);
    CHECK(agents.at("gpu").launch_us == 0);
    CHECK_FALSE(agents.at("gpu").j_per_gb.has_value());
  }

  TEST_CASE("agents that are none are refused") {
    CHECK(contains(agents_error(R"({"agents": {"cpu": {"dram_gbps": 5}}})"),
                   "/agents/cpu: expected agents beside the CPU"));
    CHECK(contains(agents_error(R"({"agents": {"npu": {}}})"), "/agents/npu/dram_gbps"));
    std::string many = R"({"agents": {"a0": {"dram_gbps": 1})";
    for (int i = 1; i < 9; ++i) many += ", \"a" + std::to_string(i) + R"(": {"dram_gbps": 1})";
    many += "}}";
    CHECK(contains(agents_error(many.c_str()), "/agents: expected at most 8 agents, got 9"));
    CHECK(contains(agents_error(R"({"agents": {"npu": {"dram_gbps": 5, "launch": 1}}})"),
                   "/agents/npu/launch"));
  }
}

}  // namespace moesim::test
