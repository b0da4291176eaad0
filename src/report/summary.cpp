#include <fmt/format.h>
#include <fmt/ostream.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "report/run_report.h"
#include "trace/trace.h"

namespace moesim {
namespace {

// Lines of a summary: a label, then text.
class Summary {
 public:
  Summary(const RunReport& report, std::ostream& out)
      : facts_(report.facts), result_(report.result), out_(out) {}

  void write() {
    write_title();
    write_inputs();
    if (result_.time) write_time(*result_.time);
    write_cache();
    write_routing();
    if (result_.memory) write_memory(*result_.memory);
    if (result_.energy) write_energy(*result_.energy);
    write_warnings();
  }

 private:
  void line(const std::string& label, const std::string& text) {
    fmt::print(out_, "  {:<14} {}\n", label, text);
  }
  void heading(const std::string& text) { fmt::print(out_, "\n{}\n", text); }

  void write_title() {
    const std::string model = facts_.model.empty() ? facts_.trace_model : facts_.model;
    const std::string name = model.empty() ? "unnamed model" : model;
    if (facts_.device.empty()) {
      fmt::print(out_, "{}, no device: the cache alone\n", name);
    } else {
      fmt::print(out_, "{} on {}\n", name, facts_.device);
    }
    if (result_.time) {
      const LatencyStatistics& t = result_.time->tpot_ms;
      fmt::print(out_, "{:.2f} tokens/s   {:.1f} ms a token (p50 {:.1f}, p90 {:.1f}, p99 {:.1f})\n",
                 result_.time->decode_tokens_per_s, t.mean, t.p50, t.p90, t.p99);
    }
  }

  void write_inputs() {
    heading("What was simulated");
    const bool synthetic = facts_.trace_model == kSyntheticModel;
    const std::string recorded_on =
        facts_.trace_model.empty() ? "an unnamed model" : facts_.trace_model;
    line(synthetic ? "synthetic" : "recorded",
         fmt::format("routing of {}: {}, {} tokens measured", synthetic ? "no model" : recorded_on,
                     facts_.trace_form, result_.measured_tokens));
    line("", facts_.trace_path);
    if (result_.prefill_tokens + result_.warmup_tokens > 0) {
      line("", fmt::format("after {} prefill and {} warm-up tokens, which are not measured",
                           result_.prefill_tokens, result_.warmup_tokens));
    }
    if (!facts_.trace_provenance.empty()) line("", shortened(facts_.trace_provenance));
    if (!facts_.model.empty()) {
      line("assumed",
           fmt::format("sizes of {}: {} MoE layers x {} experts, k = {}, {}", facts_.model,
                       facts_.layers, facts_.experts, facts_.k, expert_size()));
    }
    if (!facts_.device.empty()) {
      line("", fmt::format("the device as described: {}", facts_.device_tags));
    }
    const Json& config = facts_.config;
    line("routing", policy(config.at("routing")));
    const Json& cache = config.at("cache");
    const bool by_visit = cache.at("accounting").get<std::string>() == "event";
    const bool per_layer = cache.at("scope").get<std::string>() == "layer";
    line("cache", fmt::format("{}; {}, {}, {}", cache_size(),
                              per_layer ? "one per layer" : "one for all layers",
                              policy(cache.at("eviction")),
                              by_visit ? "visits judged as a whole" : "judged expert by expert"));
    const std::string special = special_settings(config);
    if (!special.empty()) line("", special);
    if (result_.time) {
      const Json& execution = config.at("execution");
      line("execution",
           fmt::format(
               "overlap {}, {}{} threads, prefetch {}", execution.at("overlap").get<std::string>(),
               result_.time->has_flash
                   ? fmt::format("{} read lanes, ", execution.at("lanes").get<std::size_t>())
                   : "",
               execution.at("threads").get<std::size_t>(), policy(config.at("prefetch"))));
    }
    if (result_.batch) write_batch(*result_.batch);
    if (result_.thermal) write_thermal(*result_.thermal);
    for (const std::string& note : result_.notes) line("", note);
  }

  // Only where heat changes something: a run that begins cold and ends before the first step has
  // nothing to tell.
  void write_thermal(const ThermalResult& thermal) {
    if (!thermal.heat_last) return;
    const double derated = *thermal.flash_derated_share;
    const bool falls = thermal.clock->min < thermal.clock->first;
    if (thermal.start == ThermalStart::kCold && !falls && derated == 0) return;
    const std::string flash =
        derated == 0 ? "" : fmt::format("; flash slower for {:.0f} % of the time", 100 * derated);
    line("heat", fmt::format("{} start: {} GHz at first, {} at the end{}", to_string(thermal.start),
                             thermal.clock->first, thermal.clock->last, flash));
  }

  // Settings that decide hits and are not at their defaults: "initial hot_trace, reset sequence".
  [[nodiscard]] static std::string special_settings(const Json& config) {
    std::string text;
    const auto add = [&text](const std::string& what) {
      text += (text.empty() ? "" : ", ") + what;
    };
    const Json& cache = config.at("cache");
    const std::pair<const char*, const char*> defaults[] = {
        {"initial", "empty"}, {"cold_start", "strict"}, {"reset", "never"}, {"overflow", "trim"}};
    for (const auto& [key, usual] : defaults) {
      const Json& value = cache.at(key);
      if (value == usual) continue;
      add(fmt::format("{} {}", key, value.is_string() ? value.get<std::string>() : "given"));
    }
    const Json& on_miss = config.at("weights").at("on_miss");
    if (on_miss.at("policy") != "full") add("on a miss " + policy(on_miss));
    return text;
  }

  void write_batch(const BatchResult& batch) {
    const auto passes = static_cast<double>(batch.passes);
    line("batch",
         fmt::format("{:.2f} sequences a pass (at most {}), {:.1f} distinct experts a pass",
                     static_cast<double>(batch.tokens) / passes, batch.size,
                     static_cast<double>(batch.distinct_experts) / passes));
    if (!batch.scheduler) return;
    line("scheduler",
         fmt::format("{} distinct experts of the model's own routing, {} as the sequences stand",
                     batch.scheduler->objective_after, batch.scheduler->objective_before));
  }

  [[nodiscard]] std::string expert_size() const {
    if (facts_.allocated) {
      return fmt::format("{:.2f} MiB an expert on average ({:.2f} to {:.2f}), {:.2f} bits",
                         facts_.expert_mib, to_mib(facts_.smallest_expert),
                         to_mib(facts_.largest_expert), facts_.expert_bits);
    }
    if (facts_.expert_bits > 0) {
      return fmt::format("{:.2f} MiB an expert at {} bits", facts_.expert_mib, facts_.expert_bits);
    }
    return fmt::format("{:.2f} MiB an expert as recorded", facts_.expert_mib);
  }

  // One line's worth; the whole stands in the trace (sim trace inspect).
  [[nodiscard]] static std::string shortened(const std::string& text) {
    constexpr std::size_t kLongest = 100;
    if (text.size() <= kLongest) return text;
    const std::size_t space = text.rfind(' ', kLongest);
    return text.substr(0, space == std::string::npos ? kLongest : space) + " ...";
  }

  [[nodiscard]] std::string cache_size() const {
    std::string share = fmt::format("{:.1f} % of the experts", 100 * facts_.cached_fraction);
    if (facts_.all_experts_mib <= 0) return share;
    return fmt::format("{:.0f} of {:.0f} MiB ({})", facts_.cache_mib, facts_.all_experts_mib,
                       share);
  }

  // "cache_prior (lambda 0.05, keep_top 2)"
  [[nodiscard]] static std::string policy(const Json& section) {
    std::string parameters;
    for (const auto& item : section.items()) {
      const bool is_parameter = item.key() != "policy" && item.key() != "k";
      if (!is_parameter || item.value().is_null()) continue;
      std::string value = item.value().dump();
      if (value.size() > 24) value = value.substr(0, 21) + "...";
      value.erase(std::remove(value.begin(), value.end(), '"'), value.end());
      parameters += (parameters.empty() ? "" : ", ") + item.key() + " " + value;
    }
    const auto name = section.at("policy").get<std::string>();
    return parameters.empty() ? name : fmt::format("{} ({})", name, parameters);
  }

  void write_time(const TimeResult& time) {
    heading("Where the time of a token goes");
    const auto tokens = static_cast<double>(result_.measured_tokens);
    const char* stall = time.tiers.empty() ? "flash stall" : "store stall";
    const char* names[kTimeParts] = {"compute", stall, "admission", "predictor", "overhead"};
    for (std::size_t i = 0; i < kTimeParts; ++i) {
      const double ms = to_ms(time.parts[i]) / tokens;
      const double share = ms / time.tpot_ms.mean;
      if (ms == 0) continue;
      const auto bar = static_cast<std::size_t>(std::lround(40 * share));
      fmt::print(out_, "  {:<14} {:>9.2f} ms {:>5.1f} %{}{}\n", names[i], ms, 100 * share,
                 bar > 0 ? "  " : "", std::string(bar, '#'));
    }
    write_bound(time);
    if (time.ttft_ms > 0) {
      line("first token",
           fmt::format("{:.1f} ms after the start of a sequence (mean)", time.ttft_ms));
    }
  }

  [[nodiscard]] static double busy_percent(const TimeResult& time, const FlashCounts& counts) {
    return 100 * to_seconds(counts.service) / to_seconds(time.wall);
  }

  void write_bound(const TimeResult& time) {
    const auto largest = std::max_element(time.path.begin(), time.path.end());
    const auto part = static_cast<PathPart>(largest - time.path.begin());
    const double share = 100 * to_seconds(*largest) / to_seconds(time.token_wall);
    std::string name = to_string(part);
    std::replace(name.begin(), name.end(), '_', ' ');
    std::string busy;
    if (time.has_flash) {
      busy = fmt::format("; flash busy {:.0f} % of the time", busy_percent(time, time.flash));
    }
    line("bound by", fmt::format("{}: {:.0f} % of the critical path{}", name, share, busy));
  }

  void write_cache() {
    heading("Cache");
    const CacheCounts& cache = result_.cache;
    const auto tokens = static_cast<double>(result_.measured_tokens);
    const double rate = cache.accesses == 0
                            ? 0
                            : static_cast<double>(cache.hits) / static_cast<double>(cache.accesses);
    line("hit rate",
         fmt::format("{:.2f} % of {} expert accesses; {:.1f} of {:.1f} per token missed",
                     100 * rate, cache.accesses, static_cast<double>(cache.misses) / tokens,
                     static_cast<double>(cache.accesses) / tokens));
    if (result_.belady_hit_rate) {
      line("Belady",
           fmt::format("{:.2f} % on the model's own routing, {:.2f} % on the experts that ran",
                       100 * *result_.belady_hit_rate,
                       100 * result_.belady_executed_hit_rate.value_or(0)));
    }
    if (result_.knows_bytes) {
      const std::uint64_t bytes = cache.demand_bytes + result_.prefetch.issued_bytes;
      line("read",
           fmt::format(
               "{:.1f} MiB per token from {}; one token would read {:.0f} MiB without a cache",
               to_mib(bytes) / tokens,
               result_.time && !result_.time->tiers.empty() ? "the store" : "flash",
               to_mib(result_.token_cycle_bytes)));
    }
    if (result_.time) write_tiers(*result_.time);
    if (result_.prediction.named > 0) {
      line("prediction",
           fmt::format("{:.1f} % of the experts that ran were named the visit before, "
                       "{:.1f} % of those named ran",
                       100 * result_.prediction.recall, 100 * result_.prediction.precision));
    }
    if (result_.prefetch.issued > 0) {
      const PrefetchCounts& p = result_.prefetch;
      line("prefetch", fmt::format("{} reads ahead: {} useful, {} late, {:.1f} MiB wasted",
                                   p.issued, p.useful, p.late, to_mib(p.wasted_bytes)));
    }
  }

  void write_tiers(const TimeResult& time) {
    const auto tokens = static_cast<double>(result_.measured_tokens);
    for (const TierResult& tier : time.tiers) {
      const CacheCounts& cache = tier.counts.cache;
      const double rate = cache.accesses == 0 ? 0
                                              : 100 * static_cast<double>(cache.hits) /
                                                    static_cast<double>(cache.accesses);
      line(tier.name,
           fmt::format("{:.2f} % of {} requests found there; {:.1f} MiB per token over its link, "
                       "busy {:.0f} % of the time",
                       rate, cache.accesses, to_mib(tier.counts.link.bytes) / tokens,
                       busy_percent(time, tier.counts.link)));
    }
  }

  void write_routing() {
    const RoutingProxies& mean = result_.routing.mean;
    heading("Routing against the model's own choice (divergence proxies, not quality)");
    line("experts",
         fmt::format("{:.2f} per token and layer; {:.2f} % of the model's own choice ran",
                     mean.experts, 100 * mean.agreement));
    if (result_.low_precision + result_.skipped_experts > 0) {
      const auto ran = static_cast<double>(result_.cache.accesses);
      const auto skipped = static_cast<double>(result_.skipped_experts);
      line("on a miss", fmt::format("{:.2f} % of the experts ran at low precision; {:.2f} % of "
                                    "those selected did not run",
                                    100 * static_cast<double>(result_.low_precision) / ran,
                                    100 * skipped / (ran + skipped)));
    }
    if (mean.dropped_mass) {
      line("dropped mass",
           fmt::format("{:.3f} % of the router's weight went to experts that did not run",
                       100 * *mean.dropped_mass));
    }
    if (mean.skipped_mass.value_or(0) > 0) {
      line("skipped mass",
           fmt::format("{:.3f} % of the router's weight had no other expert in its place",
                       100 * *mean.skipped_mass));
    }
  }

  void write_memory(const MemoryResult& memory) {
    heading("Memory");
    const double used =
        memory.dense_mib + memory.kv_peak_mib + memory.expert_cache_mib + memory.buffers_mib;
    line("in use",
         fmt::format("{:.0f} MiB of {:.0f}: experts {:.0f}, dense weights {:.0f}, key-value {:.0f}",
                     used, memory.budget_mib, memory.expert_cache_mib, memory.dense_mib,
                     memory.kv_peak_mib));
    if (memory.reclaim_mib_per_token > 0) {
      line("reclaimed", fmt::format("{:.1f} MiB per token, {:.1f} faulted back",
                                    memory.reclaim_mib_per_token, memory.refault_mib_per_token));
    }
  }

  void write_energy(const EnergyResult& energy) {
    heading("Energy");
    std::string parts;
    for (const auto& [name, joules] : energy.by_component) {
      parts += fmt::format("{}{} {:.2f}", parts.empty() ? "" : ", ", name, joules);
    }
    line("per token", fmt::format("{:.2f} J: {}", energy.j_per_token, parts));
  }

  void write_warnings() {
    if (result_.warnings.empty()) return;
    heading("Read this before you rely on it");
    for (const std::string& warning : result_.warnings) fmt::print(out_, "  - {}\n", warning);
  }

  const RunFacts& facts_;
  const RunResult& result_;
  std::ostream& out_;
};

}  // namespace

void write_summary(const RunReport& report, std::ostream& out) { Summary(report, out).write(); }

}  // namespace moesim
