#include <fmt/format.h>

#include <array>

#include "report/machine_report.h"

namespace moesim {
namespace {

Json or_null(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

// The keys that a result has too.
// `all`: the whole result.
Json side_json(const Json& all, const RunResult& result) {
  Json side;
  for (const char* key : {"throughput", "time_ms_per_token", "cache", "flash"}) {
    side[key] = all.at(key);
  }
  // Of a real machine nobody knows what the device itself did.
  for (const char* key : {"busy_fraction", "mean_in_flight", "copy_ms_per_token"}) {
    side["flash"].erase(key);
  }
  side["io_ms_per_token"] =
      to_ms(result.time->flash.lane) / static_cast<double>(result.measured_tokens);
  return side;
}

Json row_json(const TokenRow& row) {
  const auto part = [&](TimePart which) {
    return to_ms(row.parts[static_cast<std::size_t>(which)]);
  };
  return {{"wall_ms", to_ms(row.wall)},
          {"io_ms", to_ms(row.lane)},
          {"compute_ms", part(TimePart::kCompute)},
          {"stall_ms", part(TimePart::kFlashStall)},
          {"overhead_ms", part(TimePart::kOverhead)},
          {"read_bytes", row.read_bytes},
          {"hits", row.hits},
          {"misses", row.misses}};
}

Json tokens_json(const MachineValidation& validation) {
  Json tokens = Json::array();
  for (std::size_t i = 0; i < validation.real.rows.size(); ++i) {
    tokens.push_back({{"token", validation.real.rows[i].token},
                      {"real", row_json(validation.real.rows[i])},
                      {"simulated", row_json(validation.simulated.rows[i])}});
  }
  return tokens;
}

Json error_json(const TimeErrors& error) {
  return {{"mean", error.mean},
          {"p50", error.p50},
          {"p90", error.p90},
          {"p99", error.p99},
          {"per_token_mape", error.per_token_mape},
          {"correlation", or_null(error.correlation)},
          {"compute", or_null(error.compute)},
          {"flash_stall", or_null(error.flash_stall)},
          {"io", or_null(error.io)}};
}

// One run says nothing about noise.
Json noise_json(const MachineValidation& validation) {
  const RealNoise& noise = validation.noise;
  const auto known = [&](double value) { return noise.repeats > 1 ? Json(value) : Json(nullptr); };
  return {{"repeats", noise.repeats},
          {"mean", known(noise.mean)},
          {"p50", known(noise.p50)},
          {"p90", known(noise.p90)},
          {"p99", known(noise.p99)},
          {"per_token_mape", known(noise.per_token_mape)},
          {"real_mean_ms", validation.real_means_ms}};
}

// By where the weights were; null where there was no such product.
Json products_json(const ProductTimes& products) {
  constexpr std::array kNames{"dense", "resident_experts", "read_experts"};
  static_assert(kNames.size() == kProductKinds);
  Json json;
  for (std::size_t i = 0; i < products.size(); ++i) {
    const ProductTime& time = products[i];
    json[kNames[i]] = nullptr;
    if (time.bytes == 0) continue;
    json[kNames[i]] = {{"real_gbps", time.real_gbps()}, {"simulated_gbps", time.simulated_gbps()}};
  }
  return json;
}

Json state_json(const MachineValidation& validation) {
  if (validation.states.empty()) return nullptr;
  const auto one = [](const MachineState& state) -> Json {
    return {{"stream_gbps", state.stream_gbps}, {"read_gbps", state.read_gbps}};
  };
  Json json = {{"device_file", one(validation.expected_state)}, {"measured", Json::array()}};
  double distance = 0;
  for (const MachineState& state : validation.states) {
    json["measured"].push_back(one(state));
    distance = std::max(distance, state.distance(validation.expected_state));
  }
  json["largest_distance"] = distance;
  return json;
}

}  // namespace

Json machine_json(const MachineReport& report) {
  const MachineValidation& validation = report.validation;
  Json json;
  json["schema"] = "moesim.validation/1";
  const Json simulated = result_json({report.facts, report.inputs, validation.simulated});
  for (const char* key : {"program", "config", "inputs"}) json[key] = simulated.at(key);
  json["tokens_measured"] = validation.real.measured_tokens;
  json["real"] =
      side_json(result_json({report.facts, report.inputs, validation.real}), validation.real);
  json["simulated"] = side_json(simulated, validation.simulated);
  json["error"] = error_json(validation.error);
  json["noise"] = noise_json(validation);
  json["products"] = products_json(validation.products);
  json["machine_state"] = state_json(validation);
  json["outputs_match"] = validation.outputs_match;
  json["outputs_checksum"] = fmt::format("{:016x}", validation.outputs_checksum);
  json["reference_tokens"] = validation.reference_tokens;
  json["counts_match"] = validation.count_difference.empty();
  json["real_path"] = {{"simd", validation.simd},
                       {"reader", validation.reader},
                       {"store_mib", to_mib(validation.store_bytes)},
                       {"dense_mib", validation.dense_mib},
                       {"experts_mib", validation.experts_mib}};
  json["tokens"] = tokens_json(validation);
  json["warnings"] = validation.simulated.warnings;
  return json;
}

}  // namespace moesim
