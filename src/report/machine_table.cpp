#include <fmt/ostream.h>

#include <array>
#include <ostream>

#include "report/machine_report.h"

namespace moesim {
namespace {

void line(std::ostream& out, const char* what, double real, double simulated,
          std::optional<double> error, std::optional<double> noise) {
  const auto percent = [](std::optional<double> share) {
    return share ? fmt::format("{:+.1f} %", *share * 100) : std::string("-");
  };
  fmt::print(out, "{:<22}{:>10.3f}{:>12.3f}{:>11}{:>11}\n", what, real, simulated, percent(error),
             noise ? fmt::format("{:.1f} %", *noise * 100) : std::string("-"));
}

double part(const RunResult& result, TimePart which) {
  return to_ms(result.time->parts[static_cast<std::size_t>(which)]) /
         static_cast<double>(result.measured_tokens);
}

double io(const RunResult& result) {
  return to_ms(result.time->flash.lane) / static_cast<double>(result.measured_tokens);
}

void write_times(const MachineValidation& v, std::ostream& out) {
  const LatencyStatistics& r = v.real.time->tpot_ms;
  const LatencyStatistics& s = v.simulated.time->tpot_ms;
  const auto noise = [&](double value) -> std::optional<double> {
    if (v.noise.repeats < 2) return std::nullopt;
    return value;
  };
  fmt::print(out, "{:<22}{:>10}{:>12}{:>11}{:>11}\n", "ms per token", "real", "simulated", "error",
             "noise");
  line(out, "mean", r.mean, s.mean, v.error.mean, noise(v.noise.mean));
  line(out, "p50", r.p50, s.p50, v.error.p50, noise(v.noise.p50));
  line(out, "p90", r.p90, s.p90, v.error.p90, noise(v.noise.p90));
  line(out, "p99", r.p99, s.p99, v.error.p99, noise(v.noise.p99));
  line(out, "  compute", part(v.real, TimePart::kCompute), part(v.simulated, TimePart::kCompute),
       v.error.compute, std::nullopt);
  line(out, "  flash stall", part(v.real, TimePart::kFlashStall),
       part(v.simulated, TimePart::kFlashStall), v.error.flash_stall, std::nullopt);
  line(out, "  overhead", part(v.real, TimePart::kOverhead), part(v.simulated, TimePart::kOverhead),
       std::nullopt, std::nullopt);
  line(out, "io (lanes held)", io(v.real), io(v.simulated), v.error.io, std::nullopt);
}

void write_products(const ProductTimes& products, std::ostream& out) {
  constexpr std::array kNames{"outside the experts", "experts that were resident",
                              "experts just read"};
  static_assert(kNames.size() == kProductKinds);
  fmt::print(out, "\n{:<33}{:>11}{:>12}\n", "products, GB/s", "real", "simulated");
  for (std::size_t i = 0; i < products.size(); ++i) {
    if (products[i].bytes == 0) continue;
    fmt::print(out, "  {:<31}{:>11.1f}{:>12.1f}\n", kNames[i], products[i].real_gbps(),
               products[i].simulated_gbps());
  }
}

void write_states(const MachineValidation& v, std::ostream& out) {
  double distance = 0;
  for (const MachineState& state : v.states) {
    distance = std::max(distance, state.distance(v.expected_state));
  }
  if (v.states.empty()) return;
  const MachineState& last = v.states.back();
  fmt::print(out,
             "machine now: memory {:.1f} GB/s, reads of 1 MiB {:.2f} GB/s; the device file says "
             "{:.1f} and {:.2f}; at most {:.0f} % apart\n",
             last.stream_gbps, last.read_gbps, v.expected_state.stream_gbps,
             v.expected_state.read_gbps, distance * 100);
}

}  // namespace

void write_machine_table(const MachineReport& report, std::ostream& out) {
  const MachineValidation& v = report.validation;
  const RunFacts& facts = report.facts;
  fmt::print(out, "{}: {} layers x {} experts of {:.2f} MiB, {} read by {}, kernels {}\n",
             facts.model, facts.layers, facts.experts, facts.expert_mib,
             facts.config.at("execution").at("read_path").get<std::string>() == "mmap"
                 ? "page faults,"
                 : "experts",
             v.reader, v.simd);
  fmt::print(out, "{} tokens measured, {} real runs, the one in the middle shown\n\n",
             v.real.measured_tokens, v.noise.repeats);
  write_times(v, out);
  fmt::print(out, "{:<45}{:>11}{:>11}\n", "per token, mean |error|",
             fmt::format("{:.1f} %", v.error.per_token_mape * 100),
             v.noise.repeats > 1 ? fmt::format("{:.1f} %", v.noise.per_token_mape * 100) : "-");
  if (v.error.correlation) {
    fmt::print(out, "{:<45}{:>11.3f}\n", "per token, correlation", *v.error.correlation);
  }
  write_products(v.products, out);
  const CacheCounts& cache = v.real.cache;
  fmt::print(out, "\nhits {} of {}, {:.2f} MiB read per token: {}\n", cache.hits, cache.accesses,
             to_mib(cache.demand_bytes) / static_cast<double>(v.real.measured_tokens),
             v.count_difference.empty() ? "equal in both" : "NOT EQUAL: " + v.count_difference);
  fmt::print(out, "outputs {:016x}: {}\n", v.outputs_checksum,
             v.outputs_match
                 ? fmt::format("equal to the reference's of {} tokens", v.reference_tokens)
                 : "NOT AS EXPECTED: " + v.output_difference);
  write_states(v, out);
}

}  // namespace moesim
