#include "hardware/thermal.h"

#include <cmath>
#include <filesystem>

#include "hardware/device.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("hardware/thermal") {
  static ThermalSpec two_steps() {
    ThermalSpec spec;
    spec.tau_s = 100;
    spec.caps_ghz = {3.0, 1.5, 1.2};
    spec.caps_heat = {0, 0.25, 0.75};
    return spec;
  }

  // The first picosecond at which heat from `start` reaches `heat`, give or take one.
  static Duration reaches(const ThermalSpec& spec, double start, double heat) {
    const double seconds = spec.tau_s * std::log((1 - start) / (1 - heat));
    return Duration{std::llround(seconds * 1e12)};
  }

  constexpr Duration kMicrosecond{1'000'000};

  TEST_CASE("the clock falls at the time at which the heat of a step is reached") {
    const ThermalSpec spec = two_steps();
    ThermalState state(spec, 2.0, ThermalStart::kCold);
    CHECK(state.heat() == 0);
    CHECK(state.clock_ghz() == 2.0);  // a cap above the clock has no effect
    const Duration first = reaches(spec, 0, 0.25);
    CHECK_FALSE(state.advance(first - kMicrosecond));
    CHECK(state.clock_ghz() == 2.0);
    CHECK(state.advance(first + kMicrosecond));
    CHECK(state.clock_ghz() == 1.5);
    CHECK(state.clock() == 0.75);
    const Duration second = reaches(spec, 0, 0.75);
    CHECK_FALSE(state.advance(second - kMicrosecond));
    CHECK(state.advance(second + kMicrosecond));
    CHECK(state.clock_ghz() == 1.2);
  }

  TEST_CASE("heat is that of the whole time, however it is divided") {
    const ThermalSpec spec = two_steps();
    ThermalState once(spec, 2.0, ThermalStart::kCold);
    ThermalState often(spec, 2.0, ThermalStart::kCold);
    const Duration second{1'000'000'000'000};
    for (int i = 1; i <= 70; ++i) often.advance(i * second);
    once.advance(70 * second);
    CHECK(once.heat() == often.heat());
    CHECK(once.heat() == doctest::Approx(1 - std::exp(-0.7)));
  }

  TEST_CASE("warm is half way, sustained is at the end and stays there") {
    const ThermalSpec spec = two_steps();
    ThermalState warm(spec, 2.0, ThermalStart::kWarm);
    CHECK(warm.heat() == 0.5);
    CHECK(warm.clock_ghz() == 1.5);
    CHECK(warm.advance(reaches(spec, 0.5, 0.75) + kMicrosecond));
    ThermalState sustained(spec, 2.0, ThermalStart::kSustained);
    CHECK(sustained.heat() == 1);
    CHECK(sustained.clock_ghz() == 1.2);
    CHECK_FALSE(sustained.advance(Duration{1'000'000'000'000'000}));
    CHECK(sustained.heat() == 1);
  }

  TEST_CASE("flash slows from its own heat on, by default only in a sustained start") {
    ThermalSpec spec = two_steps();
    ThermalState cold(spec, 2.0, ThermalStart::kCold);
    cold.advance(Duration{10'000'000'000'000'000});  // 100 times tau: exp() has no more to give
    CHECK(cold.heat() < 1);
    CHECK_FALSE(cold.flash_is_hot());
    CHECK(ThermalState(spec, 2.0, ThermalStart::kSustained).flash_is_hot());
    spec.flash_heat = 0.6;
    ThermalState warm(spec, 2.0, ThermalStart::kWarm);
    CHECK_FALSE(warm.flash_is_hot());
    CHECK(warm.advance(reaches(spec, 0.5, 0.6) + kMicrosecond));
    CHECK(warm.flash_is_hot());
  }

  TEST_CASE("the calibrated phone runs for 90 s before its clock falls, to the lowest cap never") {
    const std::filesystem::path path = source_dir() / "configs/devices/oneplus-15r.json";
    const Device device = read_device(Section(read_json_file(path, "d.json"), "d.json", ""));
    REQUIRE(device.thermal.has_value());
    REQUIRE(device.thermal->is_complete());
    ThermalState state(*device.thermal, *device.cpu.clock_ghz, ThermalStart::kCold);
    const Duration second{1'000'000'000'000};
    CHECK_FALSE(state.advance(90 * second));
    CHECK(state.clock_ghz() == 2.27);
    CHECK(state.advance(95 * second));
    CHECK(state.clock_ghz() == 2.19);
    state.advance(147 * second);
    CHECK(state.clock_ghz() == 1.9);
    const ThermalState hot(*device.thermal, *device.cpu.clock_ghz, ThermalStart::kSustained);
    CHECK(hot.clock_ghz() == 1.9);
    CHECK(hot.flash_is_hot());
  }

  TEST_CASE("caps that do not go with their heats are refused") {
    const auto error_of = [](const char* text) {
      return user_error_of(
          [&] { read_thermal(Section(parse_json(text, "t"), "d.json", "/thermal")); });
    };
    CHECK(contains(error_of(R"({"tau_s": 9, "caps_ghz": [2, 1], "caps_heat": [0]})"),
                   "/thermal/caps_heat: expected a heat for each of caps_ghz"));
    CHECK(contains(error_of(R"({"tau_s": 9, "caps_ghz": [2, 1], "caps_heat": [0.5, 0.4]})"),
                   "none lower than the one before it, got [0.5,0.4]"));
    CHECK(contains(error_of(R"({"tau_s": 9, "caps_ghz": [1, 2], "caps_heat": [0, 0.4]})"),
                   "/thermal/caps_ghz: expected clocks of which none is higher"));
    CHECK(contains(error_of(R"({"tau_s": 0, "caps_ghz": [2]})"), "/thermal/tau_s"));
    CHECK_FALSE(read_thermal(Section(parse_json(R"({"tau_s": 9, "caps_ghz": [1, 2]})", "t"), "d",
                                     "/thermal"))
                    .is_complete());
  }

  TEST_CASE("a state needs to know when caps hold") {
    ThermalSpec spec = two_steps();
    CHECK_THROWS_AS(ThermalState(spec, 2.0, ThermalStart::kOff), InvariantError);
    spec.caps_heat.clear();
    CHECK_THROWS_AS(ThermalState(spec, 2.0, ThermalStart::kCold), InvariantError);
  }
}

}  // namespace moesim::test
