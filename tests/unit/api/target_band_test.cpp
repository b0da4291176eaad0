#include "api/target_band.h"

#include <cmath>
#include <map>

#include "support/testing.h"

namespace moesim::test {
namespace {

Json device_of() {
  return parse_json(R"({"flash": {"bw_gbps": 2.0}, "cpu": {"clock_ghz": 2.0, "q4_kernel_gbps": 20},
    "thermal": {"caps_ghz": [3.0, 2.5, 2.0, 1.5, 1.0]},
    "provenance": {"/flash": {"tag": "measured", "source": "x"},
                   "/flash/bw_gbps": {"tag": "derived", "source": "x", "spread": 0.1},
                   "/cpu": {"tag": "estimate", "source": "x", "spread": 0.5},
                   "/cpu/q4_kernel_gbps": {"tag": "derived", "source": "x", "spread": 0.25}}})",
                    "device");
}

Json config_of(const Json& device) { return {{"device", device}, {"execution", Json::object()}}; }

std::vector<double> clocks_of(const Json& config, const Json& device) {
  std::vector<double> clocks;
  for (const auto& group : band_cases(config, device)) {
    for (const BandCase& one : group) {
      if (one.what == "clock") clocks.push_back(one.config["execution"]["clock_ghz"]);
    }
  }
  return clocks;
}

}  // namespace

TEST_SUITE("api/target_band") {
  TEST_CASE("numbers with a spread of their own go up and down by it") {
    const Json device = device_of();
    const auto groups = band_cases(config_of(device), device);
    REQUIRE(groups.size() == 3);
    REQUIRE(groups[0].size() == 2);
    CHECK(groups[0][0].what == "/flash/bw_gbps");
    CHECK(groups[0][0].config["device"]["flash"]["bw_gbps"] == doctest::Approx(2.2));
    CHECK(groups[0][1].config["device"]["flash"]["bw_gbps"] == doctest::Approx(1.8));
    CHECK(groups[0][0].config["device"]["cpu"]["q4_kernel_gbps"] == 20);
    CHECK(groups[1][0].what == "/cpu/q4_kernel_gbps");
    CHECK(groups[1][0].config["device"]["cpu"]["q4_kernel_gbps"] == doctest::Approx(25));
    CHECK(groups[1][1].config["device"]["cpu"]["q4_kernel_gbps"] == doctest::Approx(15));
    CHECK(groups[1][0].config["device"]["flash"]["bw_gbps"] == 2.0);
    CHECK(groups[2][0].what == "clock");
  }

  TEST_CASE("rates of a kernel model count as kernel rates, raw tables of a calibration do not") {
    Json device = device_of();
    device["cpu"]["kernel_model"]["f16"] = {{{"threads", 2}, {"launch_us", 3}, {"rate_gbps", 8.0}}};
    device["calibration"] = {{"q4_kernel_gbps", 5.0}};
    const auto groups = band_cases(config_of(device), device);
    REQUIRE(groups.size() == 4);
    CHECK(groups[2][0].what == "/cpu/kernel_model/f16/0/rate_gbps");
    const Json& model = groups[2][0].config["device"]["cpu"]["kernel_model"];
    CHECK(model["f16"][0]["rate_gbps"] == doctest::Approx(8.0 * 1.15));
  }

  TEST_CASE("the clock goes one step up and down from the one in force") {
    const Json device = device_of();
    Json config = config_of(device);
    CHECK(clocks_of(config, device) == std::vector<double>{2.5, 1.5});
    config["execution"]["clock_ghz"] = 2.2;  // between two steps
    CHECK(clocks_of(config, device) == std::vector<double>{2.5, 2.0});
    config["execution"]["clock_ghz"] = 3.0;
    CHECK(clocks_of(config, device) == std::vector<double>{2.5});
    config["execution"]["clock_ghz"] = 1.0;
    CHECK(clocks_of(config, device) == std::vector<double>{1.5});
  }

  TEST_CASE("without steps or a clock there is no case of the clock") {
    Json device = device_of();
    device["thermal"] = nullptr;
    CHECK(clocks_of(config_of(device), device).empty());
    device.erase("thermal");
    CHECK(clocks_of(config_of(device), device).empty());
    device = device_of();
    device["cpu"].erase("clock_ghz");
    CHECK(clocks_of(config_of(device), device).empty());
  }

  TEST_CASE("rates of flash and kernels without a spread of their own have the usual one") {
    Json device = device_of();
    device["thermal"] = nullptr;
    device["provenance"] = {{"/flash", {{"tag", "measured"}, {"source", "x"}, {"spread", 0.5}}}};
    device["agents"] = {{"npu", {{"q4_kernel_gbps", 40}, {"f16_kernel_gbps", nullptr}}}};
    const auto groups = band_cases(config_of(device), device);
    std::map<std::string, double> factors;
    for (const auto& group : groups) {
      REQUIRE(group.size() == 2);
      const Json::json_pointer place(group[0].what);
      const auto factor = [&](std::size_t which) {
        return group[which].config["device"].at(place).get<double>() /
               device.at(place).get<double>();
      };
      factors[group[0].what] = factor(0);
      CHECK(factor(0) + factor(1) == doctest::Approx(2));
    }
    REQUIRE(factors.size() == 3);
    CHECK(factors["/flash/bw_gbps"] == doctest::Approx(1.11));
    CHECK(factors["/cpu/q4_kernel_gbps"] == doctest::Approx(1.15));
    CHECK(factors["/agents/npu/q4_kernel_gbps"] == doctest::Approx(1.15));
  }

  TEST_CASE("deviations add in quadrature, each side for itself") {
    const Json numbers = {{"tok_s", 10.0}, {"wall_ms", {{"mean", 100.0}}}, {"io_ms", nullptr}};
    const auto wall = [](double mean) { return Json{{"wall_ms", {{"mean", mean}}}}; };
    const Json band =
        combine_band(numbers, {{wall(103), wall(96)}, {wall(104), wall(101)}, {wall(97)}},
                     {"tok_s", "wall_ms.mean", "io_ms"});
    CHECK(band["wall_ms"]["mean"][0] == doctest::Approx(95));   // sqrt(4^2 + 3^2) below
    CHECK(band["wall_ms"]["mean"][1] == doctest::Approx(105));  // sqrt(3^2 + 4^2) above
    CHECK(band["tok_s"] == Json{10.0, 10.0});                   // no run has it
    CHECK(!band.contains("io_ms"));
    CHECK(combine_band(numbers, {}, {"tok_s"})["tok_s"] == Json{10.0, 10.0});
  }
}

}  // namespace moesim::test
