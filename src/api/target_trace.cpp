#include "api/target_trace.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>

#include "api/run.h"
#include "api/target_config.h"
#include "engine/replay.h"
#include "engine/run_observer.h"
#include "trace/importers/importer.h"
#include "trace/synthetic.h"

namespace moesim {
namespace {

// With skew 1, locality 0.5 and noise 0.8 the hit rates of a byte LRU at 1000 to 5000 MiB are 33,
// 57, 73, 82, 87 %; those of the recorded Qwen3-30B run are 38, 57, 71, 80, 88 %. With burst 0.7
// the bytes that a token reads vary by 0.35 and 0.56 of their mean at 2000 and 4000 MiB; in that
// run by 0.37 and 0.61.
SyntheticOptions synthetic_options(const TargetRow& row, double noise) {
  SyntheticOptions options;
  options.tokens = row.prompt_tokens + row.tokens;
  options.layers = row.layers;
  options.experts = row.experts;
  options.k = row.top_k;
  options.prefill_tokens = row.prompt_tokens;
  options.skew = 1.0;
  options.locality = 0.5;
  options.persistence = 0.9;
  options.burst = 0.7;
  options.noise = noise;
  return options;
}

// Bytes that the demand misses of decoded tokens read, the first ones left out.
class DemandBytes final : public RunObserver {
 public:
  explicit DemandBytes(std::size_t dropped) : dropped_(dropped) {}
  void on_pass(const PassRecord& record) override {
    if (record.pass->phase != Phase::kDecode || tokens_++ < dropped_) return;
    bytes_ += record.cache.demand_bytes;
  }
  [[nodiscard]] double per_token() const {
    return static_cast<double>(bytes_) / static_cast<double>(tokens_ - dropped_);
  }

 private:
  std::size_t dropped_;
  std::size_t tokens_ = 0;
  std::uint64_t bytes_ = 0;
};

// What decoded tokens of a timed run read, the first ones left out.
double timed_bytes(const TargetRow& row, RunPlan& plan) {
  ExecuteOptions options;
  options.keep_rows = true;
  options.with_bounds = false;
  const RunResult result = execute(plan, options);
  std::uint64_t bytes = 0;
  for (std::size_t i = row.tokens_dropped; i < result.rows.size(); ++i) {
    bytes += result.rows[i].read_bytes;
  }
  return static_cast<double>(bytes) / static_cast<double>(result.rows.size() - row.tokens_dropped);
}

double bytes_of(const TargetRow& row, const Json& config, const std::filesystem::path& folder) {
  const auto plan = plan_run({config, row.place, folder, {}});
  if (!config.at("device").is_null()) return timed_bytes(row, *plan);
  DemandBytes bytes(row.tokens_dropped);
  Replay(plan->session(), plan->schedule()).run(0, plan->schedule().passes.size(), &bytes);
  return bytes.per_token();
}

double routed_bytes(const TargetRow& row) {
  double bytes = 0;
  for (const auto& [size, layers] : row.expert_bytes) {
    bytes += static_cast<double>(size) * static_cast<double>(layers * row.top_k);
  }
  return bytes;
}

// Logarithms of a knob, and the bytes that the routing of one reads.
struct Range {
  double low;
  double high;
};
using BytesAt = std::function<double(double)>;

Range noises() { return {std::log(0.02), std::log(20.0)}; }
Range temperatures() { return {std::log(0.05), std::log(20.0)}; }

// Two settings between which the bytes pass what is wanted.
struct Bracket {
  double few;   // gives no more than is wanted
  double many;  // no less
};

// Bytes rise with the noise where experts are cached: the ends of the range decide. Where experts
// that weigh little are dropped they may also fall, or rise and fall: then steps between the ends
// are tried too.
std::optional<Bracket> find_bracket(const Range& range, double wanted, const BytesAt& bytes_at) {
  const double at_low = bytes_at(range.low);
  const double at_high = bytes_at(range.high);
  if (at_low <= wanted && at_high >= wanted) return Bracket{range.low, range.high};
  if (at_low >= wanted && at_high <= wanted) return Bracket{range.high, range.low};
  constexpr int kSteps = 8;
  for (int step = 1; step < kSteps; ++step) {
    const double middle = range.low + (range.high - range.low) * step / kSteps;
    const double bytes = bytes_at(middle);
    if (at_low <= wanted && bytes >= wanted) return Bracket{range.low, middle};
    if (at_low >= wanted && bytes <= wanted) return Bracket{middle, range.low};
  }
  return std::nullopt;
}

// Halves the bracket until the bytes are within a thousandth of what is wanted.
std::optional<double> find_setting(const Range& range, double wanted, const BytesAt& bytes_at) {
  auto bracket = find_bracket(range, wanted, bytes_at);
  if (!bracket) return std::nullopt;
  double middle = (bracket->few + bracket->many) / 2;
  for (int step = 0; step < 20; ++step, middle = (bracket->few + bracket->many) / 2) {
    const double bytes = bytes_at(middle);
    if (std::abs(bytes / wanted - 1) < 0.001) break;
    (bytes < wanted ? bracket->few : bracket->many) = middle;
  }
  return middle;
}

// Everything that decides what is read.
std::string key_of(const TargetRow& row, const Json& config) {
  std::string key =
      fmt::format("{} {} {} {} {} {} {} {:.5g}", Json(row.expert_bytes).dump(), row.experts,
                  row.tokens, row.prompt_tokens, row.tokens_dropped, config.at("cache").dump(),
                  config.at("routing").dump(), TargetTraces::measured_bytes(row).value());
  if (!config.at("device").is_null()) key += config.dump();
  return key;
}

double in_mib(double bytes) { return bytes / static_cast<double>(kMiB); }

UnsupportedRow cannot_read(double wanted) {
  return UnsupportedRow(
      fmt::format("no synthetic routing reads the measured {:.1f} MiB a token", in_mib(wanted)));
}

}  // namespace

RowTrace TargetTraces::recorded(const TargetRow& row) {
  ImportRequest request;
  request.inputs = {recordings_ / row.route_trace};
  std::error_code error;
  if (!std::filesystem::is_regular_file(request.inputs[0], error)) {
    throw UnsupportedRow(
        fmt::format("its recorded routing is not there: {}", request.inputs[0].string()));
  }
  write_trace(import_trace("bigmoeonedge", request).data, folder_ / kFile);
  return {kFile, "", std::nullopt, true};
}

RowTrace TargetTraces::any(const TargetRow& row) {
  write_synthetic(row, {});
  return {kFile, "", std::nullopt, true};
}

RowTrace TargetTraces::like(const TargetRow& row, double noise, const std::string& from) {
  write_synthetic(row, {noise, 1, std::nullopt});
  return {kFile, fmt::format("synthetic routing with the locality of {}", from), noise, true};
}

RowTrace TargetTraces::conditioned(const TargetRow& row, const Json& config) {
  const std::string key = key_of(row, config);
  if (known_.count(key) == 0) known_[key] = fit_noise(row, config);
  return write_conditioned(row, known_[key]);
}

RowTrace TargetTraces::softened(const TargetRow& row, const Json& config, double noise) {
  const std::string key = fmt::format("softened {} {}", noise, key_of(row, config));
  if (known_.count(key) == 0) known_[key] = fit_temperature(row, config, noise);
  return write_conditioned(row, known_[key]);
}

TargetTraces::Knobs TargetTraces::fit_noise(const TargetRow& row, const Json& config) const {
  const double wanted = measured_bytes(row).value();
  const auto bytes_at = [&](double log_noise) {
    write_synthetic(row, {std::exp(log_noise), 1, std::nullopt});
    return bytes_of(row, config, folder_);
  };
  const Range range = noises();
  if (const auto found = find_setting(range, wanted, bytes_at)) {
    return {std::exp(*found), 1, std::nullopt};
  }
  const double least = bytes_at(range.low);
  if (drops_experts(row) || wanted > least) throw cannot_read(wanted);
  return {std::exp(range.low), 1, least};
}

TargetTraces::Knobs TargetTraces::fit_temperature(const TargetRow& row, const Json& config,
                                                  double noise) const {
  const double wanted = measured_bytes(row).value();
  const auto bytes_at = [&](double log_temperature) {
    write_synthetic(row, {noise, std::exp(log_temperature), std::nullopt});
    return bytes_of(row, config, folder_);
  };
  const Range range = temperatures();
  if (const auto found = find_setting(range, wanted, bytes_at)) {
    return {noise, std::exp(*found), std::nullopt};
  }
  const double coldest = bytes_at(range.low);
  if (wanted > coldest) throw cannot_read(wanted);
  const double least_noise = std::exp(noises().low);
  write_synthetic(row, {least_noise, 1, std::nullopt});
  const double calmest = bytes_of(row, config, folder_);
  if (calmest < coldest) return {least_noise, 1, calmest};
  return {noise, std::exp(range.low), coldest};
}

RowTrace TargetTraces::write_conditioned(const TargetRow& row, const Knobs& knobs) const {
  write_synthetic(row, knobs);
  const std::string what = knobs.temperature == 1 ? fmt::format("noise {:.3f}", knobs.noise)
                                                  : fmt::format("noise {:.3f}, temperature {:.3f}",
                                                                knobs.noise, knobs.temperature);
  const std::string standin =
      knobs.reads
          ? fmt::format(
                "synthetic routing, the one that reads least ({}): {:.1f} MiB a token, not the "
                "measured {:.1f}",
                what, in_mib(*knobs.reads), in_mib(measured_bytes(row).value()))
          : fmt::format("synthetic routing, conditioned on the bytes read ({})", what);
  return {kFile, standin, knobs.noise, !knobs.reads};
}

std::optional<double> TargetTraces::measured_bytes(const TargetRow& row) {
  if (const auto hit = metric_of(row.measured, "byte_hit_pct")) {
    return (1 - *hit / 100) * routed_bytes(row);
  }
  const auto mib = metric_of(row.measured, "mib_per_token");
  if (!mib) return std::nullopt;
  const double experts = static_cast<double>(row.layers * row.top_k);
  const double padding = padding_bytes(row) * experts / routed_bytes(row);
  return *mib * static_cast<double>(kMiB) / (1 + padding);
}

double padding_bytes(const TargetRow& row) {
  // What whole pages at both ends add to a read of a slice that lies unaligned in its file
  // (BigMoeOnEdge, README of its measurements: about 4 KiB per read).
  constexpr double kPerRead = 4096;
  const std::string layout = layout_of(row);
  if (layout == "contiguous") return 0;
  return kPerRead * (layout == "fused" ? 2 : 3);
}

void TargetTraces::write_synthetic(const TargetRow& row, const Knobs& knobs) const {
  TraceData data = synthetic_trace(synthetic_options(row, knobs.noise));
  if (knobs.temperature != 1) {
    for (float& logit : data.logits) logit = static_cast<float>(logit / knobs.temperature);
  }
  data.expert_bytes = expert_bytes_by_layer(row);
  data.metadata.insert_or_assign("gate", std::string(1, 'A'));
  write_trace(data, folder_ / kFile);
}

}  // namespace moesim
