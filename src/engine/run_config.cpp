#include "engine/run_config.h"

#include <fmt/format.h>

#include <utility>

#include "cache/eviction/eviction_policy.h"
#include "config/builtin.h"
#include "core/files.h"
#include "engine/execution_config.h"
#include "prefetch/prefetcher.h"
#include "routing/routing_policy.h"

namespace moesim {
namespace {

namespace fs = std::filesystem;

// Reads the sections of a configuration one by one and writes down what is in force.
class ConfigReader {
 public:
  ConfigReader(const Json& root, const std::string& shown, const fs::path& base_dir, bool has_trace)
      : root_(root, shown, ""), base_dir_(base_dir), has_trace_(has_trace) {}

  RunConfig read() {
    root_.integer_or("schema", 1, 1, 1);
    root_.string_or("description", "");
    TraceKeys trace = read_trace();
    std::vector<RunConfig::Input> inputs;
    auto model = read_reference("model", "models", &read_model, inputs);
    auto device = read_reference("device", "devices", &read_device, inputs);
    const WeightBits bits = read_weights(inputs);
    std::optional<std::size_t> k;
    Section routing = read_routing(k);
    const CacheConfig cache = read_cache(inputs);
    Section prefetch =
        read_policy<Prefetcher>(root_.optional_object("prefetch"), "prefetch", "none");
    inputs.insert(inputs.end(), policy_files_.begin(), policy_files_.end());
    const ExecutionOptions execution =
        read_execution(root_, device, trace.schedule.batch, resolved_["execution"]);
    const MemoryOptions memory = read_memory_options(root_, device, resolved_);
    if (execution.read_path == ReadPath::kMmap) read_by_page_faults(*device, execution, prefetch);
    std::vector<TierConfig> tiers = read_tier_configs(root_, device, resolved_);
    const std::uint64_t seed = root_.integer_or("seed", 1);
    resolved_["seed"] = seed;
    root_.reject_unread_keys();
    if (device && !model) {
      throw root_.error("model",
                        "expected a model (a file, an object or a built-in name), because "
                        "a device is given and time depends on sizes");
    }
    return {root_.file(),
            trace.path,
            trace.shown,
            trace.schedule,
            std::move(model),
            std::move(device),
            std::move(inputs),
            bits,
            cache,
            execution,
            k,
            std::move(routing),
            std::move(*eviction_),
            std::move(prefetch),
            std::move(tiers),
            seed,
            std::move(resolved_),
            std::move(allocation_),
            on_miss_,
            memory};
  }

 private:
  struct TraceKeys {
    fs::path path;
    std::string shown;
    ScheduleOptions schedule;
  };

  TraceKeys read_trace() {
    Section section = root_.object("trace");
    TraceKeys keys;
    keys.shown = section.string("path");
    keys.path = base_dir_ / keys.shown;
    try {
      if (!has_trace_) require_regular_file(keys.path, keys.shown);
    } catch (const UserError& error) {
      throw section.error("path", error.what());
    }
    keys.schedule.max_tokens = section.optional_integer("max_tokens", 1);
    keys.schedule.warmup_tokens = section.integer_or("warmup_tokens", 0);
    const std::string prefill = section.choice_or("prefill", "warm", {"warm", "skip"});
    keys.schedule.prefill = prefill == "warm" ? PrefillMode::kWarm : PrefillMode::kSkip;
    resolved_["schema"] = 1;
    Json& out = resolved_["trace"];
    out["path"] = keys.shown;
    out["max_tokens"] = keys.schedule.max_tokens ? Json(*keys.schedule.max_tokens) : Json(nullptr);
    out["warmup_tokens"] = keys.schedule.warmup_tokens;
    out["prefill"] = prefill;
    return keys;
  }

  // A model or a device: what the key refers to, read and checked; none for null or no key.
  template <class Thing>
  std::optional<Thing> read_reference(const std::string& key, const std::string& kind,
                                      Thing (*read_thing)(Section),
                                      std::vector<RunConfig::Input>& inputs) {
    root_.accept(key);
    if (!root_.has(key)) {
      resolved_[key] = nullptr;
      return std::nullopt;
    }
    ConfigSource source;
    Section section = open_reference(root_, key, kind, base_dir_, &source);
    std::optional<Thing> thing = read_thing(section);
    section.reject_unread_keys();
    if (!source.file.empty()) inputs.push_back({root_.string(key), source.file});
    resolved_[key] = root_.raw(key);
    return thing;
  }

  WeightBits read_weights(std::vector<RunConfig::Input>& inputs) {
    WeightBits bits;
    Json allocation = nullptr;
    Json on_miss = {{"policy", "full"}};
    if (auto section = root_.optional_object("weights")) {
      constexpr NumberRange kBits{0.5, 32.0};
      bits.expert = section->number_or("expert_bits", bits.expert, kBits);
      bits.dense = section->number_or("dense_bits", bits.dense, kBits);
      bits.kv = section->number_or("kv_bits", bits.kv, kBits);
      bits.expert_format = read_weight_format(*section, "expert_format");
      bits.dense_format = read_weight_format(*section, "dense_format");
      allocation = read_allocation_key(*section, inputs);
      if (auto miss = section->optional_object("on_miss")) on_miss = read_on_miss(*miss);
    }
    resolved_["weights"] = {{"expert_bits", bits.expert},
                            {"dense_bits", bits.dense},
                            {"kv_bits", bits.kv},
                            {"expert_format", null_if_empty(bits.expert_format)},
                            {"dense_format", null_if_empty(bits.dense_format)},
                            {"allocation", std::move(allocation)},
                            {"on_miss", std::move(on_miss)}};
    return bits;
  }

  static Json null_if_empty(const std::string& name) { return name.empty() ? Json() : Json(name); }

  static std::string read_weight_format(Section& weights, const std::string& key) {
    weights.accept(key);
    if (!weights.has(key)) return "";
    std::string format = weights.string(key);
    if (!is_weight_format(format)) {
      throw weights.error(key, "expected null, f16, f32 or q1 to q15, got \"" + format + "\"");
    }
    return format;
  }

  // A file that sim compress wrote, or the object itself. Returns what stands there.
  Json read_allocation_key(Section& weights, std::vector<RunConfig::Input>& inputs) {
    weights.accept("allocation");
    if (!weights.has("allocation")) return nullptr;
    const Json& value = weights.raw("allocation");
    if (value.is_object()) {
      allocation_ = read_allocation(weights.object("allocation"));
      return value;
    }
    const std::string shown = weights.string("allocation");
    const fs::path path = base_dir_ / shown;
    try {
      require_regular_file(path, path.string());
    } catch (const UserError& error) {
      throw weights.error("allocation", error.what());
    }
    allocation_ = read_allocation(Section(read_json_file(path, path.string()), path.string(), ""));
    inputs.push_back({shown, path});
    return value;
  }

  Json read_on_miss(Section& section) {
    const std::string policy = section.choice_or("policy", "full", {"full", "hobbit", "slices"});
    if (policy == "full") return {{"policy", policy}};
    on_miss_.policy = policy == "hobbit" ? MissPolicy::kHobbit : MissPolicy::kSlices;
    on_miss_.low_bits = section.number_or("low_bits", on_miss_.low_bits, {0.5, 32.0});
    if (section.has("thresholds")) {
      const std::vector<double> given = section.numbers("thresholds", kUnitInterval);
      if (given.size() != 2 || given[0] > given[1]) {
        throw section.error("thresholds",
                            "expected two numbers in [0, 1] that do not decrease, "
                            "got " +
                                section.raw("thresholds").dump());
      }
      on_miss_.full_until = given[0];
      on_miss_.low_until = given[1];
    }
    section.accept("thresholds");
    return {{"policy", policy},
            {"low_bits", on_miss_.low_bits},
            {"thresholds", {on_miss_.full_until, on_miss_.low_until}}};
  }

  // The policy section with defaults filled in; `fallback` where the configuration has none.
  template <class Interface>
  Section read_policy(std::optional<Section> section, const std::string& key,
                      const std::string& fallback) {
    if (!section) section = Section(Json{{"policy", fallback}}, root_.file(), "/" + key);
    Json resolved = Registry<Interface>::instance().resolve(*section);
    resolved_[Json::json_pointer("/" + key)] = resolved;
    for (const Parameter& parameter : Registry<Interface>::instance()
                                          .all()
                                          .at(resolved.at("policy").template get<std::string>())
                                          .parameters) {
      if (parameter.type == "file") read_policy_file(*section, parameter.name);
    }
    return {std::move(resolved), section->file(), section->pointer()};
  }

  // A file that a policy will read is an input of the run.
  void read_policy_file(Section& section, const std::string& key) {
    if (!section.has(key)) return;
    const std::string shown = section.string(key);
    try {
      require_regular_file(base_dir_ / shown, shown);
    } catch (const UserError& error) {
      throw section.error(key, error.what());
    }
    policy_files_.push_back({shown, base_dir_ / shown});
  }

  Section read_routing(std::optional<std::size_t>& k) {
    auto section = root_.optional_object("routing");
    if (section && section->has("k")) k = section->integer("k", 1, 0xFFFF);
    if (section) {
      Json policy = section->json();
      policy.erase("k");
      section->accept_all_keys();
      section = Section(std::move(policy), section->file(), section->pointer());
      section->know("k");
    }
    Section result = read_policy<RoutingPolicy>(std::move(section), "routing", "top_k");
    resolved_["routing"]["k"] = k ? Json(*k) : Json(nullptr);
    return result;
  }

  CacheConfig read_cache(std::vector<RunConfig::Input>& inputs) {
    Section section = root_.object("cache");
    CacheConfig cache;
    const std::string scope = section.choice_or("scope", "layer", {"layer", "global"});
    cache.scope = scope == "layer" ? CacheScope::kLayer : CacheScope::kGlobal;
    const std::string capacity_key = read_capacity(section, cache.capacity);
    const std::string accounting = section.choice_or("accounting", "event", {"event", "access"});
    cache.accounting = accounting == "event" ? Accounting::kEvent : Accounting::kAccess;
    const std::string order =
        section.choice_or("touch_order", "descending", {"descending", "ascending"});
    cache.touch_order = order == "descending" ? TouchOrder::kDescending : TouchOrder::kAscending;
    const std::string overflow = section.choice_or("overflow", "trim", {"trim", "keep_event"});
    cache.overflow = overflow == "trim" ? Overflow::kTrim : Overflow::kKeepEvent;
    InitialFile initial_file;
    cache.initial = read_initial_contents(section, base_dir_, initial_file);
    if (!initial_file.shown.empty()) inputs.push_back({initial_file.shown, initial_file.path});
    const std::string cold =
        section.choice_or("cold_start", "strict", {"strict", "hit_until_full"});
    cache.cold_start = cold == "strict" ? ColdStart::kStrict : ColdStart::kHitUntilFull;
    const std::string reset = section.choice_or("reset", "never", {"never", "sequence"});
    cache.reset = reset == "never" ? CacheReset::kNever : CacheReset::kSequence;
    resolved_["cache"] = {{"scope", scope}};
    resolved_["cache"][capacity_key] = section.raw(capacity_key);
    eviction_ =
        read_policy<EvictionPolicy>(section.optional_object("eviction"), "cache/eviction", "lru");
    resolved_["cache"].update(Json{{"accounting", accounting},
                                   {"touch_order", order},
                                   {"overflow", overflow},
                                   {"initial", cache.initial.written},
                                   {"cold_start", cold},
                                   {"reset", reset}});
    return cache;
  }

  // Returns the key that gives the capacity.
  static std::string read_capacity(Section& section, CapacityChoice& capacity) {
    const std::vector<std::string> keys{"capacity_experts", "capacity_fraction", "capacity_mib"};
    std::string given;
    for (const std::string& key : keys) {
      section.know(key);
      if (!section.has(key)) continue;
      if (!given.empty()) {
        throw section.error(key, fmt::format("expected one capacity, got {} and {}", given, key));
      }
      given = key;
    }
    if (given.empty()) {
      throw section.error_here(
          "expected one of capacity_experts, capacity_fraction, capacity_mib, got none");
    }
    if (given == "capacity_experts") capacity.experts = section.integer(given);
    if (given == "capacity_fraction") capacity.fraction = section.number(given, kUnitInterval);
    if (given == "capacity_mib") capacity.mib = section.number(given, {0.0, 1e9});
    return given;
  }

  Section root_;
  fs::path base_dir_;
  bool has_trace_;
  Json resolved_;
  std::optional<Section> eviction_;
  std::optional<ExpertAllocation> allocation_;
  MissOptions on_miss_;
  std::vector<RunConfig::Input> policy_files_;
};

}  // namespace

UserError RunConfig::error(const std::string& pointer, const std::string& message) const {
  return user_error(shown + ": " + pointer, message);
}

RunConfig read_run_config(const Json& root, const std::string& shown, const fs::path& base_dir,
                          std::shared_ptr<const Trace> trace) {
  RunConfig config = ConfigReader(root, shown, base_dir, trace != nullptr).read();
  config.base_dir = base_dir;
  config.trace = std::move(trace);
  return config;
}

}  // namespace moesim
