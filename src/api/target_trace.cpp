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

double replayed_bytes(const TargetRow& row, const Json& config,
                      const std::filesystem::path& folder) {
  const auto plan = plan_run({config, row.place, folder, {}});
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

// Two logarithms of the noise between which the bytes pass what is wanted.
struct Bracket {
  double few;   // gives no more than is wanted
  double many;  // no less
};

// Bytes rise with the noise where experts are cached: the ends of the range decide. Where experts
// that weigh little are dropped they may also fall, or rise and fall: then steps between the ends
// are tried too.
std::optional<Bracket> find_bracket(double wanted, const std::function<double(double)>& bytes_at) {
  const double low = std::log(0.02);
  const double high = std::log(20.0);
  const double at_low = bytes_at(low);
  const double at_high = bytes_at(high);
  if (at_low <= wanted && at_high >= wanted) return Bracket{low, high};
  if (at_low >= wanted && at_high <= wanted) return Bracket{high, low};
  constexpr int kSteps = 8;
  for (int step = 1; step < kSteps; ++step) {
    const double middle = low + (high - low) * step / kSteps;
    const double bytes = bytes_at(middle);
    if (at_low <= wanted && bytes >= wanted) return Bracket{low, middle};
    if (at_low >= wanted && bytes <= wanted) return Bracket{middle, low};
  }
  return std::nullopt;
}

// Halves the bracket until the bytes are within a thousandth of what is wanted.
std::optional<double> find_log_noise(double wanted, const std::function<double(double)>& bytes_at) {
  auto bracket = find_bracket(wanted, bytes_at);
  if (!bracket) return std::nullopt;
  double middle = (bracket->few + bracket->many) / 2;
  for (int step = 0; step < 20; ++step, middle = (bracket->few + bracket->many) / 2) {
    const double bytes = bytes_at(middle);
    if (std::abs(bytes / wanted - 1) < 0.001) break;
    (bytes < wanted ? bracket->few : bracket->many) = middle;
  }
  return middle;
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
  return {kFile, "", std::nullopt};
}

RowTrace TargetTraces::any(const TargetRow& row) {
  constexpr double kNoise = 0.8;
  write_synthetic(row, kNoise);
  return {kFile, "", std::nullopt};
}

RowTrace TargetTraces::like(const TargetRow& row, double noise, const std::string& from) {
  write_synthetic(row, noise);
  return {kFile, fmt::format("synthetic routing with the locality of {}", from), noise};
}

RowTrace TargetTraces::conditioned(const TargetRow& row, const Json& config) {
  const double wanted = measured_bytes(row).value();
  const std::string key = fmt::format(
      "{} {} {} {} {} {} {:.5g}", Json(row.expert_bytes).dump(), row.experts, row.tokens,
      row.prompt_tokens, config.at("cache").dump(), config.at("routing").dump(), wanted);
  if (known_noise_.count(key) == 0) {
    const auto log_noise = find_log_noise(wanted, [&](double tried) {
      write_synthetic(row, std::exp(tried));
      return replayed_bytes(row, config, folder_);
    });
    if (!log_noise) {
      throw UnsupportedRow(fmt::format("no synthetic routing reads the measured {:.1f} MiB a token",
                                       wanted / static_cast<double>(kMiB)));
    }
    known_noise_[key] = std::exp(*log_noise);
  }
  RowTrace trace = like(row, known_noise_[key], "");
  trace.standin = fmt::format("synthetic routing, conditioned on the bytes read (noise {:.3f})",
                              known_noise_[key]);
  return trace;
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

void TargetTraces::write_synthetic(const TargetRow& row, double noise) const {
  TraceData data = synthetic_trace(synthetic_options(row, noise));
  data.expert_bytes = expert_bytes_by_layer(row);
  data.metadata.insert_or_assign("gate", std::string(1, 'A'));
  write_trace(data, folder_ / kFile);
}

}  // namespace moesim
