#include "hardware/device.h"

#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <string>

#include "core/files.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("hardware/device") {
  // The smallest device that is accepted.
  Json smallest() {
    return parse_json(R"({
      "name": "tiny",
      "flash": {"bw_gbps": 2.5, "host_delay_us": 160},
      "dram": {"total_gbps": 60, "cpu_gbps": 40},
      "cpu": {"threads": 4},
      "memory": {"app_budget_mib": 4000},
      "provenance": {
        "/flash": {"tag": "derived", "source": "a fit"},
        "/dram": {"tag": "measured", "source": "a log"},
        "/cpu/threads": {"tag": "measured", "source": "a log"},
        "/memory": {"tag": "estimate", "source": "none"}}})",
                      "d.json");
  }

  Device read(const Json& device) { return read_device(Section(device, "d.json", "")); }

  // The message after `change` has been applied to the smallest device as a JSON merge patch.
  std::string error_after(const char* change) {
    Json device = smallest();
    device.merge_patch(parse_json(change, "change"));
    return user_error_of([&] { read(device); });
  }

  TEST_CASE("keys that may be absent have the documented defaults") {
    const Device device = read(smallest());
    CHECK(device.name == "tiny");
    CHECK(device.description.empty());
    CHECK(device.flash->bw_gbps == 2.5);
    CHECK(device.flash->host_delay_us == 160);
    CHECK(device.flash->dev_cmd_us == 0);
    CHECK(device.flash->copy_gbps == 0);
    CHECK(device.flash->qd_limit == 32);
    CHECK(device.flash->lanes == 1);
    CHECK(device.flash->noise_sigma == 0);
    CHECK(device.flash->bounce_gbps == 0);
    CHECK(device.flash->submission == Submission::kThreads);
    CHECK(device.flash->max_cmd_kib == 0);
    CHECK(device.flash->queues == 1);
    CHECK(device.flash->multi_issuer_derate == 1);
    CHECK(device.flash->small_read_curve.empty());
    CHECK(device.flash->range_derate.empty());
    CHECK(device.dram.cpu_core_gbps == 40);
    CHECK(device.dram.dma_factor == 1);
    CHECK(device.cpu.layer_overhead_us == 0);
    CHECK(device.cpu.kernel_gbps.empty());
    CHECK(device.memory.page_kib == 4);
    CHECK(device.memory.admit_us_per_page == 0);
    CHECK_FALSE(device.energy.has_value());
  }

  TEST_CASE("every simulated key reaches its field") {
    const std::filesystem::path path = source_dir() / "configs/devices/oneplus-15r.json";
    const Device device = read_device(Section(read_json_file(path, "d.json"), "d.json", ""));
    CHECK(device.name == "oneplus-15r");
    CHECK(device.flash->copy_gbps == 10);
    CHECK(device.flash->qd_limit == 32);
    CHECK(device.flash->lanes == 4);
    CHECK(device.flash->noise_sigma == 0.1);
    CHECK(device.dram.total_gbps == 61.9);
    CHECK(device.dram.cpu_gbps == 61.9);
    CHECK(device.dram.cpu_core_gbps == 31.9);
    CHECK(device.dram.dma_factor == 3);
    CHECK(device.cpu.threads == 4);
    CHECK(device.cpu.layer_overhead_us == 200);
    CHECK(device.cpu.kernel_gbps == std::map<std::string, double>{{"q4", 20.85}, {"q5", 15.58}});
    CHECK(device.memory.app_budget_mib == 5600);
    CHECK(device.memory.page_kib == 4);
    CHECK(device.memory.admit_us_per_page == 0.492);
    CHECK(device.memory.reserve_mib == 1550);
    CHECK(device.fitted_rows == std::vector<std::string>{"C1", "C2-1", "C2-2", "Q2", "Q8"});
    REQUIRE(device.energy.has_value());
    CHECK(device.energy->flash_j_per_gb == 0.42);
    CHECK(device.energy->cpu_j_per_gb == 0.17);
    CHECK(device.energy->dram_j_per_gb == 0.056);
    CHECK(device.energy->platform_w == 1.0);
  }

  TEST_CASE("what a validation needs of a device is read where it is there") {
    Device device = read(smallest());
    CHECK(!device.memory.reserve_mib);
    CHECK(device.fitted_rows.empty());
    Json text = smallest();
    text["memory"]["reserve_mib"] = 1500.5;
    text["fitted_rows"] = {"A", "B"};
    device = read(text);
    CHECK(device.memory.reserve_mib == 1500.5);
    CHECK(device.fitted_rows == std::vector<std::string>{"A", "B"});
    text["memory"]["reserve_mib"] = 0;
    CHECK(read(text).memory.reserve_mib == 0);
    CHECK(contains(error_after(R"({"memory": {"reserve_mib": -1}})"),
                   "d.json: /memory/reserve_mib: expected "));
    CHECK(error_after(R"({"fitted_rows": "C1"})") ==
          "d.json: /fitted_rows: expected an array of strings, got \"C1\"");
    CHECK(error_after(R"({"fitted_rows": ["C1", 2]})") ==
          "d.json: /fitted_rows: expected an array of strings, got [\"C1\",2]");
  }

  TEST_CASE("an entry of the provenance may state how uncertain its number is") {
    Json text = smallest();
    text["provenance"]["/flash"]["spread"] = 0.25;
    text["provenance"]["/cpu/threads"]["spread"] = 0;
    const Device device = read(text);
    CHECK(device.provenance["/flash/bw_gbps"]["spread"] == 0.25);
    CHECK(device.provenance["/flash/host_delay_us"]["spread"] == 0.25);
    CHECK(device.provenance["/cpu/threads"]["spread"] == 0);
    CHECK(!device.provenance["/dram/total_gbps"].contains("spread"));
    for (const char* wrong : {"-0.1", "1.1", "\"10 %\""}) {
      const std::string change =
          std::string(R"({"provenance": {"/dram": {"spread": )") + wrong + "}}}";
      CHECK(contains(error_after(change.c_str()), ": expected a number in [0, 1], got "));
    }
  }

  TEST_CASE("what asynchronous and small reads need reaches its field") {
    const std::filesystem::path path = source_dir() / "configs/devices/oneplus-12.json";
    const Device device = read_device(Section(read_json_file(path, "d.json"), "d.json", ""));
    CHECK(device.flash->submission == Submission::kAsync);
    CHECK(device.flash->cycles_per_cmd == 12000);
    CHECK(device.flash->issue_clock_ghz == 3.3);
    CHECK(device.flash->max_cmd_kib == 512);
    CHECK(device.flash->multi_issuer_derate == 0.6);
    CHECK(device.flash->small_read_curve.size() == 8);
    CHECK(device.flash->small_read_curve[3] == std::pair(32.0, 1.75));
    CHECK(device.flash->range_derate.back() == std::pair(1024.0, 0.7));
    Json bounced = smallest();
    bounced["flash"]["bounce_gbps"] = 2.5;
    CHECK(read(bounced).flash->bounce_gbps == 2.5);
  }

  TEST_CASE("asynchronous submission needs what a command costs, a range needs a curve") {
    CHECK(
        error_after(R"({"flash": {"submission": "async", "cycles_per_cmd": 12000}})") ==
        "d.json: /flash/submission: expected threads, because the cost of an asynchronous command "
        "needs cycles_per_cmd and cpu.clock_ghz");
    CHECK(contains(error_after(R"({"flash": {"submission": "async"}, "cpu": {"clock_ghz": 2}})"),
                   "needs cycles_per_cmd and cpu.clock_ghz"));
    CHECK(contains(error_after(R"({"flash": {"submission": "fast"}})"),
                   "d.json: /flash/submission: unknown value \"fast\"; known: threads, async"));
    CHECK(error_after(R"({"flash": {"range_derate": [[128, 1.0]]}})") ==
          "d.json: /flash/range_derate: expected none, because there is no "
          "small_read_curve_kib_gbps");
    CHECK(
        error_after(R"({"flash": {"small_read_curve_kib_gbps": [[4, 1]],
                                    "range_derate": [[128, 1.5]]}})") ==
        "d.json: /flash/range_derate: expected [[MiB, factor], ...] with rising ranges and factors "
        "in (0, 1], got [[128,1.5]]");
    CHECK(contains(error_after(R"({"flash": {"bounce_gbps": -1}})"), ": expected "));
    CHECK(contains(error_after(R"({"flash": {"queues": 0}})"), ": expected "));
    CHECK(contains(error_after(R"({"flash": {"multi_issuer_derate": 0}})"), ": expected "));
  }

  TEST_CASE("every shipped device is read, bears the name of its file and describes itself") {
    std::size_t devices = 0;
    for (const auto& file :
         std::filesystem::directory_iterator(source_dir() / "configs" / "devices")) {
      const std::string shown = file.path().filename().string();
      CAPTURE(shown);
      const Device device = read_device(Section(read_json_file(file.path(), shown), shown, ""));
      CHECK(device.name == file.path().stem());
      CHECK_FALSE(device.description.empty());
      CHECK(device.energy.has_value() == (device.name != "sn40l-node"));  // nothing published
      CHECK_FALSE(device.cpu.kernel_gbps.empty());
      ++devices;
    }
    CHECK(devices >= 16);
  }

  TEST_CASE("the table in docs/devices.md has the tags of every shipped device") {
    const std::string docs = read_text_file(source_dir() / "docs" / "devices.md", "devices.md");
    for (const auto& file :
         std::filesystem::directory_iterator(source_dir() / "configs" / "devices")) {
      const std::string shown = file.path().filename().string();
      const Device device = read_device(Section(read_json_file(file.path(), shown), shown, ""));
      const auto tags = device.count_tags();
      const std::string row =
          fmt::format("| `{}` | {} | {} | {} | {} |", device.name, tags.at("measured"),
                      tags.at("vendor"), tags.at("derived"), tags.at("estimate"));
      CAPTURE(row);
      CHECK(contains(docs, row));
    }
  }

  TEST_CASE("a missing key, a wrong type and a value out of range are named") {
    CHECK(error_after(R"({"flash": {"bw_gbps": null}})") == "d.json: /flash/bw_gbps: missing key");
    CHECK(error_after(R"({"dram": null})") == "d.json: /dram: missing key");
    CHECK(error_after(R"({"flash": {"bw_gbps": 0}})") ==
          "d.json: /flash/bw_gbps: expected a number in [1e-06, 1000000], got 0");
    CHECK(error_after(R"({"cpu": {"threads": 2.5}})") ==
          "d.json: /cpu/threads: expected an integer in [1, 4096], got 2.5");
    CHECK(error_after(R"({"memory": {"app_budget_mib": -1}})") ==
          "d.json: /memory/app_budget_mib: expected a number > 0, got -1");
    CHECK(error_after(R"({"schema": 2})") ==
          "d.json: /schema: expected an integer in [1, 1], got 2");
    CHECK(error_after(R"({"energy": {"flash_j_per_gb": 1}})") ==
          "d.json: /energy/cpu_j_per_gb: missing key");
  }

  TEST_CASE("keys that are not simulated are checked all the same") {
    for (const char* change :
         {R"({"flash": {"max_cmd_kib": 0}})", R"({"flash": {"cycles_per_cmd": -1}})",
          R"({"flash": {"hot_derate": 1.5}})", R"({"flash": {"mmap_fault_us": "90"}})",
          R"({"cpu": {"clock_ghz": 0}})", R"({"memory": {"zram_gbps": 0}})",
          R"({"flash": {"mmap_window_kib": 0}})", R"({"flash": {"mmap_fault_us": -1}})",
          R"({"memory": {"zram_gbps": 1, "compress_gbps": 0}})",
          R"({"memory": {"zram_gbps": 1, "direct_reclaim_share": 1.5}})",
          R"({"thermal": {"tau_s": 0, "caps_ghz": [2]}})",
          R"({"thermal": {"tau_s": 90, "caps_ghz": [2, -1]}})"}) {
      CAPTURE(change);
      CHECK(contains(error_after(change), ": expected "));
    }
  }

  TEST_CASE("what reclaim costs needs a memory to reclaim into") {
    for (const std::string key : {"compress_gbps", "direct_reclaim_share"}) {
      CHECK(error_after((R"({"memory": {")" + key + R"(": 0.5}})").c_str()) ==
            "d.json: /memory/" + key + ": expected zram_gbps beside it, got none");
    }
  }

  TEST_CASE("the curve of small reads has pairs with rising sizes") {
    for (const char* curve :
         {"[]", "5", "[[4]]", "[[4, 0]]", "[[8, 1], [4, 1]]", "[[4, 1], [\"8\", 1]]"}) {
      CAPTURE(curve);
      Json device = smallest();
      device["flash"]["small_read_curve_kib_gbps"] = parse_json(curve, "curve");
      CHECK(user_error_of([&] { read(device); }) ==
            std::string("d.json: /flash/small_read_curve_kib_gbps: expected [[KiB, GB/s], ...] "
                        "with rising sizes and rates > 0, got ") +
                device["flash"]["small_read_curve_kib_gbps"].dump());
    }
    Json device = smallest();
    device["flash"]["small_read_curve_kib_gbps"] = parse_json("[[4, 0.4], [32, 0.8]]", "curve");
    CHECK(read(device).count_tags().at("derived") == 6);
  }

  TEST_CASE("more lanes than the queue holds contradict each other") {
    CHECK(error_after(R"({"flash": {"qd_limit": 8, "lanes": 9}})") ==
          "d.json: /flash/lanes: expected at most qd_limit, which is 8, got 9");
  }

  TEST_CASE("kernel rates are named by weight format") {
    Json device = smallest();
    device["provenance"]["/cpu"] = {{"tag", "estimate"}, {"source", "none"}};
    for (const char* format : {"f32", "f16", "q8", "q4", "q15", "q1"}) {
      device["cpu"][std::string(format) + "_kernel_gbps"] = 20;
    }
    CHECK(read(device).cpu.kernel_gbps.size() == 6);
    for (const char* format : {"f8", "q0", "q16", "q", "Q4", "q4k", ""}) {
      Json wrong = device;
      const std::string key = std::string(format) + "_kernel_gbps";
      wrong["cpu"][key] = 20;
      CHECK(contains(user_error_of([&] { read(wrong); }), "d.json: /cpu/" + key + ": unknown key"));
    }
  }

  TEST_CASE("an unknown key is named before its number is found to lack an entry") {
    CHECK(contains(error_after(R"({"flash": {"lane": 4}})"),
                   "d.json: /flash/lane: unknown key; known here: "));
    CHECK(contains(error_after(R"({"flash": {"lane": 4}})"), "; nearest: lanes"));
    CHECK(
        contains(error_after(R"({"provenance": {"/dram": {"page": 3}}})"),
                 "d.json: /provenance/~1dram/page: unknown key; known here: source, spread, tag"));
  }

  TEST_CASE("a number without provenance is an error") {
    CHECK(error_after(R"({"provenance": null})") == "d.json: /provenance: missing key");
    CHECK(error_after(R"({"provenance": {"/cpu/threads": null}})") ==
          "d.json: /cpu/threads: expected an entry \"/cpu/threads\" in provenance for this number, "
          "got none");
    // "/cpu/threads" does not cover a key that only begins alike.
    CHECK(error_after(R"({"cpu": {"q4_kernel_gbps": 20},
                          "provenance": {"/cpu/q4": {"tag": "vendor", "source": "x"}}})") ==
          "d.json: /provenance/~1cpu~1q4: expected a JSON pointer to a number of this device or to "
          "what holds one, got \"/cpu/q4\"");
  }

  TEST_CASE("inside another file the pointer of the device comes first") {
    Json device = smallest();
    device["provenance"].erase("/memory");
    CHECK(
        user_error_of([&] { read_device(Section(device, "run.json", "/device")); }) ==
        "run.json: /device/memory/app_budget_mib: expected an entry \"/memory/app_budget_mib\" in "
        "provenance for this number, got none");
  }

  TEST_CASE("raw tables of a calibration need no source and change nothing") {
    Json device = smallest();
    device["calibration"] = {{"flash_table", {{128, 1, 1.9}, {128, 2, 2.4}}}, {"date", "today"}};
    CHECK(read(device).provenance == read(smallest()).provenance);
    device["provenance"]["/calibration"] = {{"tag", "measured"}, {"source", "a log"}};
    CHECK(contains(user_error_of([&] { read(device); }),
                   "expected a JSON pointer to a number of this device"));
    CHECK(contains(error_after(R"({"calibration": [1, 2]})"),
                   "d.json: /calibration: expected an object, got [1,2]"));
  }

  TEST_CASE("an entry has to cover a number") {
    const char* message =
        ": expected a JSON pointer to a number of this device or to what holds one, got ";
    for (const char* pointer : {"/flash/lanes", "/name", "/nothing", "flash", "/flash/"}) {
      CAPTURE(pointer);
      Json device = smallest();
      device["provenance"][pointer] = {{"tag", "vendor"}, {"source", "x"}};
      CHECK(contains(user_error_of([&] { read(device); }), message));
    }
  }

  TEST_CASE("tags are four, and a source is not empty") {
    CHECK(error_after(R"({"provenance": {"/dram": {"tag": "guess"}}})") ==
          "d.json: /provenance/~1dram/tag: unknown value \"guess\"; known: measured, vendor, "
          "derived, estimate; nearest: vendor");
    CHECK(error_after(R"({"provenance": {"/dram": {"source": ""}}})") ==
          "d.json: /provenance/~1dram/source: expected a source, got \"\"");
    CHECK(error_after(R"({"provenance": {"/dram": {"source": null}}})") ==
          "d.json: /provenance/~1dram/source: missing key");
  }

  TEST_CASE("tags are counted per number, and the closest entry counts") {
    Json device = smallest();
    device["flash"]["small_read_curve_kib_gbps"] = parse_json("[[4, 0.4], [32, 0.8]]", "curve");
    device["provenance"]["/flash/small_read_curve_kib_gbps/1"] = {{"tag", "vendor"},
                                                                  {"source", "x"}};
    const Device read_back = read(device);
    CHECK(read_back.count_tags() ==
          std::map<std::string, std::size_t>{
              {"derived", 4}, {"estimate", 1}, {"measured", 3}, {"vendor", 2}});
    CHECK(read_back.provenance.at("/flash/small_read_curve_kib_gbps/1/0").at("tag") == "vendor");
    CHECK(read_back.provenance.at("/flash/bw_gbps").at("source") == "a fit");
  }

  TEST_CASE("weight formats are named by their whole bits") {
    CHECK(weight_format(16) == "f16");
    CHECK(weight_format(32) == "f32");
    CHECK(weight_format(8) == "q8");
    CHECK(weight_format(8.5) == "q8");
    CHECK(weight_format(4) == "q4");
    CHECK(weight_format(4.85) == "q4");
    CHECK(weight_format(5.5) == "q5");
    CHECK(weight_format(2.7) == "q2");
  }
}

}  // namespace moesim::test
