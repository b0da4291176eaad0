#include "api/target_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "cache/eviction/eviction_policy.h"
#include "config/builtin.h"
#include "config/registry.h"
#include "prefetch/prefetcher.h"

namespace moesim {
namespace {

template <class Interface>
bool has_policy(const std::string& name) {
  return Registry<Interface>::instance().all().count(name) > 0;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

// The letters that a model's name begins with: qwen, gemma, gpt, lfm.
std::string family(const std::string& name) {
  const auto end =
      std::find_if(name.begin(), name.end(), [](unsigned char c) { return std::isalpha(c) == 0; });
  return {name.begin(), end};
}

MoeModel builtin_model(const std::string& name) { return read_model(open_named(name, "models")); }

bool has_shape(const MoeModel& model, const TargetRow& row) {
  return model.moe_layers.size() == row.layers && model.num_experts == row.experts;
}

// Weights per token outside the routed experts.
std::uint64_t active_dense_params(const MoeModel& model) {
  std::uint64_t params = model.head_params();
  for (std::size_t layer = 0; layer < model.num_hidden_layers; ++layer) {
    params += model.active_mixer_params(layer);
    params += model.is_moe_layer(layer) ? model.router_params() + model.shared_expert_params()
                                        : model.dense_ffn_params();
  }
  return params;
}

// "Q4_K_M" -> q4, "MXFP4 experts in ..." -> q4, "F16" -> f16: the kernels that the device was
// measured with.
std::string kernel_format(const std::string& format) {
  const auto digit = std::find_if(format.begin(), format.end(),
                                  [](unsigned char c) { return std::isdigit(c) != 0; });
  if (digit == format.end()) return "";
  const std::string bits(digit, std::find_if(digit, format.end(),
                                             [](unsigned char c) { return std::isdigit(c) == 0; }));
  const std::string name = (bits == "16" || bits == "32" ? "f" : "q") + bits;
  return is_weight_format(name) ? name : "";
}

Json weights_of(const TargetRow& row, const MoeModel& model) {
  const auto bytes = static_cast<double>(row.dense_bytes + row.head_bytes);
  const double bits = 8.0 * bytes / static_cast<double>(active_dense_params(model));
  Json weights = {{"dense_bits", std::clamp(bits, 0.5, 32.0)}};
  const std::string format = kernel_format(row.format);
  if (!format.empty()) {
    weights["expert_format"] = format;
    weights["dense_format"] = format;
  }
  return weights;
}

Json routing_of(const TargetRow& row) {
  Json routing = {{"policy", "top_k"}, {"k", row.top_k}};
  if (drops_experts(row)) {
    routing["policy"] = "drop_cold";
    routing["F"] = *row.drop_cold_frac;
  }
  return routing;
}

Json eviction_of(const TargetRow& row) {
  const std::string name = row.eviction.empty() ? "lru" : row.eviction;
  if (!has_policy<EvictionPolicy>(name)) {
    throw UnsupportedRow("the eviction policy \"" + name + "\" is not one of this program's");
  }
  return {{"policy", name}};
}

double dense_mib(const TargetRow& row) {
  return static_cast<double>(row.dense_bytes + row.head_bytes) / static_cast<double>(kMiB);
}

// Dense weights that the row keeps in the page cache take no part of what it may cache experts in.
double page_cache_mib(const TargetRow& row, const Device& device) {
  const auto available = row.sensors.find("mem_available_start_mib");
  const double all =
      available != row.sensors.end() ? available->second : device.memory.app_budget_mib;
  return std::max(0.0, all - dense_mib(row));
}

Json cache_of(const TargetRow& row, const Device& device) {
  if (row.cache_scope != "global" && row.cache_scope != "layer") {
    throw UnsupportedRow("the cache scope \"" + row.cache_scope + "\" is neither global nor layer");
  }
  const double mib = row.mmap ? page_cache_mib(row, device) : row.cache_mib.value_or(0.0);
  return {{"scope", row.cache_scope},
          {"capacity_mib", mib},
          {"overflow", "keep_event"},
          {"eviction", eviction_of(row)}};
}

std::optional<double> sensor(const TargetRow& row, const std::string& name) {
  const auto found = row.sensors.find(name);
  return found == row.sensors.end() ? std::nullopt : std::optional(found->second);
}

// The clock that the row is held at; none where nothing says that it was not the usual one, or
// where the device's rates are not stated for a clock.
std::optional<double> clock_of(const TargetRow& row, const TargetDevice& device) {
  if (!device.device.cpu.clock_ghz) return std::nullopt;
  const auto entry = sensor(row, "clock_cap_entry_ghz");
  const auto exit = sensor(row, "clock_cap_exit_ghz");
  if (entry) return exit ? (*entry + *exit) / 2 : *entry;
  return row.state == "hot" ? sustained_clock_ghz(device.text) : std::nullopt;
}

// The page faults of a memory map have no lanes.
std::size_t lanes_of(const TargetRow& row, const Device& device, std::vector<std::string>& notes) {
  if (row.mmap || !device.flash || row.lanes <= device.flash->qd_limit) {
    return row.mmap ? 0 : row.lanes;
  }
  notes.push_back(fmt::format("{} lanes cut to the {} that the device takes (flash.qd_limit)",
                              row.lanes, device.flash->qd_limit));
  return device.flash->qd_limit;
}

Json execution_of(const TargetRow& row, const TargetDevice& device,
                  std::vector<std::string>& notes) {
  Json execution = {{"overlap", row.overlap && !row.mmap ? "projection" : "none"},
                    {"expert_layout", layout_of(row)}};
  if (row.mmap) execution["read_path"] = "mmap";
  if (row.threads > 0) execution["threads"] = row.threads;
  if (const std::size_t lanes = lanes_of(row, device.device, notes); lanes > 0) {
    execution["lanes"] = lanes;
  }
  if (const auto clock = clock_of(row, device)) execution["clock_ghz"] = *clock;
  return execution;
}

std::string dense_pages_of(const TargetRow& row, const Device& device,
                           std::vector<std::string>& notes) {
  if (row.dense_policy == "ahwb") return "pinned";
  if (row.dense_policy == "anon") return "anonymous";
  if (device.flash && device.flash->mmap_fault_us) return "file";
  notes.emplace_back(
      "dense weights in anonymous memory instead of the page cache: the device has no "
      "flash.mmap_fault_us");
  return "anonymous";
}

Json memory_of(const TargetRow& row, const Device& device, std::vector<std::string>& notes) {
  Json memory = {{"dense_pages", dense_pages_of(row, device, notes)}};
  const auto available = sensor(row, "mem_available_start_mib");
  const bool limited = row.mmap || (row.state == "pressure" && device.memory.reserve_mib);
  if (!available || !limited) return memory;
  double budget = row.mmap ? *available : *available - *device.memory.reserve_mib;
  if (budget <= 0) {
    const double least = std::max(1.0, dense_mib(row));
    notes.push_back(fmt::format(
        "a budget of {:.0f} MiB instead of {:.0f} MiB: that of the dense weights", least, budget));
    budget = least;
  }
  memory["app_budget_mib"] = budget;
  return memory;
}

bool is_without_prefetch(const Json& prefetch) {
  return prefetch.is_null() || prefetch == false || prefetch == 0 || prefetch == "" ||
         prefetch == "none" || prefetch == "off";
}

// Of a policy here that needs no more than the routing: others look at the router's logits of the
// next layer, or train on what was decoded before, and no row has either.
bool runs_on_any_trace(const std::string& name) {
  static constexpr std::array<const char*, 3> kNeedMore = {"next_layer_gate", "token_table",
                                                           "transition"};
  return has_policy<Prefetcher>(name) &&
         std::find(kNeedMore.begin(), kNeedMore.end(), name) == kNeedMore.end();
}

// What the engine's own prefetch predicts with is a router of the next layer, whose logits no row
// has: a predictor of the recall that was measured for it stands for it (hardware reference, 6.2).
Json prefetch_of(const TargetRow& row, double capacity_mib, TargetConfig& result) {
  if (is_without_prefetch(row.prefetch)) return {{"policy", "none"}};
  if (capacity_mib <= 0 || row.mmap) {
    result.notes.emplace_back(row.mmap ? "no prefetch: page faults read nothing ahead"
                                       : "no prefetch: without a cache it has no room");
    return {{"policy", "none"}};
  }
  if (row.prefetch.is_string() && runs_on_any_trace(row.prefetch.get<std::string>())) {
    return {{"policy", row.prefetch}};
  }
  constexpr double kRecall = 0.886;  // Qwen3-30B-A3B, BigMoeOnEdge
  // Naming a whole layer is right for k of its experts.
  const double least = static_cast<double>(row.top_k) / static_cast<double>(row.experts);
  const double precision = std::max(kRecall, least);
  result.standin = fmt::format("prefetch {}: a noisy oracle of recall {:.3f} and precision {:.3f}",
                               row.prefetch.dump(-1, ' ', false, Json::error_handler_t::replace),
                               kRecall, precision);
  return {{"policy", "noisy_oracle"}, {"recall", kRecall}, {"precision", precision}};
}

}  // namespace

TargetModel model_of(const TargetRow& row) {
  std::string name = lower(row.model);
  const std::string suffix = "-it";
  if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
  const std::vector<std::string> known = builtin_names("models");
  for (const std::string& candidate : {lower(row.group), name}) {
    if (std::find(known.begin(), known.end(), candidate) == known.end()) continue;
    MoeModel model = builtin_model(candidate);
    if (has_shape(model, row)) return {candidate, std::move(model)};
  }
  for (const std::string& candidate : known) {
    if (family(candidate) != family(name)) continue;
    MoeModel model = builtin_model(candidate);
    if (has_shape(model, row)) return {candidate, std::move(model)};
  }
  throw UnsupportedRow(fmt::format("no model description of {} with {} layers of {} experts",
                                   row.model, row.layers, row.experts));
}

TargetConfig target_config(const TargetRow& row, const TargetDevice& device,
                           const TargetModel& model, const std::string& trace_path) {
  TargetConfig result;
  const Json cache = cache_of(row, device.device);
  result.config = {
      {"schema", 1},
      {"trace", {{"path", trace_path}, {"max_tokens", row.prompt_tokens + row.tokens}}},
      {"model", model.name},
      {"device", device.text},
      {"weights", weights_of(row, model.model)},
      {"routing", routing_of(row)},
      {"cache", cache},
      {"prefetch", prefetch_of(row, cache.at("capacity_mib"), result)},
      {"execution", execution_of(row, device, result.notes)},
      {"memory", memory_of(row, device.device, result.notes)},
      {"seed", 1}};
  return result;
}

std::string layout_of(const TargetRow& row) {
  if (row.expert_layout == "contiguous" || row.reads_per_expert == 1) return "contiguous";
  return row.reads_per_expert == 2 ? "fused" : "slices";
}

std::vector<std::int64_t> expert_bytes_by_layer(const TargetRow& row) {
  std::vector<std::int64_t> bytes;
  bytes.reserve(row.layers);
  std::vector<std::size_t> given(row.expert_bytes.size(), 0);
  for (std::size_t layer = 0; layer < row.layers; ++layer) {
    // The size that is furthest behind its share; the first of equals.
    std::size_t next = 0;
    double most = -1;
    for (std::size_t i = 0; i < given.size(); ++i) {
      const double due = static_cast<double>((layer + 1) * row.expert_bytes[i].second) /
                             static_cast<double>(row.layers) -
                         static_cast<double>(given[i]);
      if (due > most) {
        most = due;
        next = i;
      }
    }
    ++given[next];
    bytes.push_back(static_cast<std::int64_t>(row.expert_bytes[next].first));
  }
  return bytes;
}

std::optional<double> sustained_clock_ghz(const Json& device) {
  if (!device.contains("thermal") || !device["thermal"].contains("caps_heat")) return std::nullopt;
  const auto caps = device["thermal"].at("caps_ghz").get<std::vector<double>>();
  const auto heats = device["thermal"].at("caps_heat").get<std::vector<double>>();
  std::optional<double> clock;
  for (std::size_t i = 0; i < std::min(caps.size(), heats.size()); ++i) {
    if (heats[i] <= 1.0) clock = caps[i];
  }
  return clock;
}

}  // namespace moesim
