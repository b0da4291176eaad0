#include "api/target_band.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "calibration/targets.h"

namespace moesim {
namespace {

BandCase scaled(const Json& config, const std::string& pointer, double factor) {
  BandCase result{pointer, config};
  Json& value = result.config["device"].at(Json::json_pointer(pointer));
  value = value.get<double>() * factor;
  return result;
}

// The clock that a run of `config` starts with.
std::optional<double> clock_in_force(const Json& config, const Json& device) {
  const Json& execution = config.at("execution");
  if (execution.contains("clock_ghz")) return execution.at("clock_ghz").get<double>();
  const Json& cpu = device.at("cpu");
  return cpu.contains("clock_ghz") ? std::optional(cpu.at("clock_ghz").get<double>())
                                   : std::nullopt;
}

std::vector<BandCase> up_and_down(const Json& config, const std::string& pointer, double spread) {
  return {scaled(config, pointer, 1 + spread), scaled(config, pointer, 1 - spread)};
}

// The spread of a number that the device file states none for (hardware reference, 7.5); 0: none.
double usual_spread(const std::string& pointer) {
  constexpr double kFlashRate = 0.11;
  constexpr double kKernelRate = 0.15;
  if (pointer == "/flash/bw_gbps") return kFlashRate;
  if (pointer.starts_with("/calibration/")) return 0;
  const bool modelled =
      pointer.starts_with("/cpu/kernel_model/") && pointer.ends_with("/rate_gbps");
  return modelled || pointer.ends_with("_kernel_gbps") ? kKernelRate : 0;
}

bool states_spread(const Json& device, const std::string& pointer) {
  const Json& provenance = device.at("provenance");
  return provenance.contains(pointer) && provenance.at(pointer).contains("spread");
}

std::vector<BandCase> clock_cases(const Json& config, const Json& device) {
  std::vector<BandCase> cases;
  const auto clock = clock_in_force(config, device);
  if (!clock || !device.contains("thermal") || device.at("thermal").is_null()) return cases;
  const auto caps = device.at("thermal").at("caps_ghz").get<std::vector<double>>();
  std::optional<double> above;
  std::optional<double> below;
  for (const double cap : caps) {
    if (cap > *clock && (!above || cap < *above)) above = cap;
    if (cap < *clock && (!below || cap > *below)) below = cap;
  }
  for (const auto& step : {above, below}) {
    if (!step) continue;
    cases.push_back({"clock", config});
    cases.back().config["execution"]["clock_ghz"] = *step;
  }
  return cases;
}

}  // namespace

std::vector<std::vector<BandCase>> band_cases(const Json& config, const Json& device) {
  std::vector<std::vector<BandCase>> groups;
  for (const auto& entry : device.at("provenance").items()) {
    if (!entry.value().contains("spread")) continue;
    if (!device.at(Json::json_pointer(entry.key())).is_number()) continue;
    const double spread = entry.value().at("spread").get<double>();
    groups.push_back(up_and_down(config, entry.key(), spread));
  }
  const Json numbers = device.flatten();
  for (const auto& entry : numbers.items()) {
    const double spread = usual_spread(entry.key());
    if (spread <= 0 || !entry.value().is_number() || states_spread(device, entry.key())) continue;
    groups.push_back(up_and_down(config, entry.key(), spread));
  }
  if (auto clock = clock_cases(config, device); !clock.empty()) groups.push_back(std::move(clock));
  return groups;
}

Json combine_band(const Json& numbers, const std::vector<std::vector<Json>>& runs,
                  const std::vector<std::string>& wanted) {
  Json band = Json::object();
  for (const std::string& metric : wanted) {
    const auto middle = metric_of(numbers, metric);
    if (!middle) continue;
    double up = 0;
    double down = 0;
    for (const std::vector<Json>& group : runs) {
      double most = 0;
      double least = 0;
      for (const Json& run : group) {
        const double difference = metric_of(run, metric).value_or(*middle) - *middle;
        most = std::max(most, difference);
        least = std::min(least, difference);
      }
      up += most * most;
      down += least * least;
    }
    std::string pointer = "/" + metric;
    std::replace(pointer.begin(), pointer.end(), '.', '/');
    band[Json::json_pointer(pointer)] = {*middle - std::sqrt(down), *middle + std::sqrt(up)};
  }
  return band;
}

}  // namespace moesim
