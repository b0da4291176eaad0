#include "hardware/thermal.h"

#include <algorithm>
#include <cmath>

#include "core/errors.h"

namespace moesim {
namespace {

double heat_of(ThermalStart start) {
  if (start == ThermalStart::kSustained) return 1.0;
  return start == ThermalStart::kWarm ? 0.5 : 0.0;
}

// What keeps decoding only comes close to 1, also where rounding would let it arrive.
constexpr double kHottest = 1.0 - std::numeric_limits<double>::epsilon();

}  // namespace

const char* to_string(ThermalStart start) {
  switch (start) {
    case ThermalStart::kOff:
      return "off";
    case ThermalStart::kCold:
      return "cold";
    case ThermalStart::kWarm:
      return "warm";
    case ThermalStart::kSustained:
      return "sustained";
  }
  throw InvariantError("a thermal start without a name");
}

ThermalStart thermal_start(const std::string& name) {
  for (const ThermalStart start :
       {ThermalStart::kOff, ThermalStart::kCold, ThermalStart::kWarm, ThermalStart::kSustained}) {
    if (name == to_string(start)) return start;
  }
  throw InvariantError("no thermal start is called " + name);
}

ThermalSpec read_thermal(Section section) {
  ThermalSpec thermal;
  thermal.tau_s = section.number("tau_s", kPositive);
  thermal.caps_ghz = section.numbers("caps_ghz", kPositive);
  thermal.flash_heat = section.number_or("flash_heat", thermal.flash_heat, kNonNegative);
  section.know("caps_heat");
  if (!section.has("caps_heat")) {
    section.accept("caps_heat");
    return thermal;
  }
  thermal.caps_heat = section.numbers("caps_heat", kNonNegative);
  if (thermal.caps_heat.size() != thermal.caps_ghz.size() ||
      !std::is_sorted(thermal.caps_heat.begin(), thermal.caps_heat.end())) {
    throw section.error("caps_heat",
                        "expected a heat for each of caps_ghz, none lower than the one "
                        "before it, got " +
                            section.raw("caps_heat").dump());
  }
  if (!std::is_sorted(thermal.caps_ghz.rbegin(), thermal.caps_ghz.rend())) {
    throw section.error("caps_ghz",
                        "expected clocks of which none is higher than the one before it, because "
                        "caps_heat orders them, got " +
                            section.raw("caps_ghz").dump());
  }
  return thermal;
}

ThermalState::ThermalState(const ThermalSpec& spec, double clock_ghz, ThermalStart start)
    : spec_(spec),
      nominal_ghz_(clock_ghz),
      start_heat_(heat_of(start)),
      heat_(start_heat_),
      clock_ghz_(clock_ghz) {
  if (!spec.is_complete() || start == ThermalStart::kOff) {
    throw InvariantError("a thermal state needs caps_heat and a start");
  }
  apply();
}

bool ThermalState::advance(Duration elapsed) {
  const double clock_before = clock_ghz_;
  const bool hot_before = flash_is_hot();
  if (start_heat_ < 1) {
    const double risen = 1.0 - (1.0 - start_heat_) * std::exp(-to_seconds(elapsed) / spec_.tau_s);
    heat_ = std::min(risen, kHottest);
  }
  apply();
  return clock_ghz_ != clock_before || flash_is_hot() != hot_before;
}

void ThermalState::apply() {
  clock_ghz_ = nominal_ghz_;
  for (std::size_t step = 0; step < spec_.caps_heat.size(); ++step) {
    if (heat_ < spec_.caps_heat[step]) break;
    clock_ghz_ = std::min(nominal_ghz_, spec_.caps_ghz[step]);
  }
}

}  // namespace moesim
