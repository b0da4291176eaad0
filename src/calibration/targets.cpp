#include "calibration/targets.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "config/json_file.h"

namespace moesim {
namespace {

constexpr const char* kSchema = "phone-measurements/1";
constexpr std::uint64_t kMost = 1U << 20U;         // of anything that is counted
constexpr std::uint64_t kMostTokens = 1U << 14U;   // a synthetic routing of more takes minutes
constexpr std::uint64_t kMostBytes = 1ULL << 40U;  // of an expert, or of dense weights

std::optional<double> optional_number(Section& row, const std::string& key,
                                      const NumberRange& range = kNonNegative) {
  row.know(key);
  if (!row.has(key)) return std::nullopt;
  return row.number(key, range);
}

bool is_within(const Json& count, std::uint64_t most) {
  return count.get<std::uint64_t>() > 0 && count.get<std::uint64_t>() <= most;
}

// [[bytes, layers], ...]
std::vector<std::pair<std::uint64_t, std::size_t>> read_expert_bytes(Section& row) {
  const std::string key = "expert_bytes_by_layer_count";
  const Json& sizes = row.raw(key);
  std::vector<std::pair<std::uint64_t, std::size_t>> result;
  bool right = sizes.is_array() && !sizes.empty();
  for (std::size_t i = 0; right && i < sizes.size(); ++i) {
    const Json& pair = sizes[i];
    right = pair.is_array() && pair.size() == 2 && pair[0].is_number_unsigned() &&
            pair[1].is_number_unsigned() && is_within(pair[0], kMostBytes) &&
            is_within(pair[1], kMost);
    if (right) result.emplace_back(pair[0].get<std::uint64_t>(), pair[1].get<std::size_t>());
  }
  if (!right) throw row.error(key, "expected [[bytes, layers], ...], got " + sizes.dump());
  return result;
}

std::map<std::string, double> read_sensors(Section& row) {
  std::map<std::string, double> sensors;
  row.know("sensors");
  if (!row.has("sensors")) return sensors;
  const Section section = row.object("sensors");
  for (const auto& item : section.json().items()) {
    if (item.value().is_number()) sensors[item.key()] = item.value().get<double>();
  }
  return sensors;
}

void read_engine(Section& section, TargetRow& row) {
  row.cache_mib = optional_number(section, "cache_mib");
  row.lanes = section.optional_integer("lanes", 1, kMost).value_or(0);
  row.overlap = section.boolean_or("overlap", false);
  row.mmap = section.boolean_or("mmap", false);
  section.know("prefetch");
  if (section.has("prefetch")) row.prefetch = section.raw("prefetch");
  row.drop_cold_frac = optional_number(section, "drop_cold_frac");
  row.eviction = section.string_or("eviction", "");
  row.cache_scope = section.string_or("cache_scope", "global");
  row.expert_layout = section.string_or("expert_layout", "slices");
  row.reads_per_expert = section.optional_integer("reads_per_expert", 1, kMost).value_or(0);
  row.dense_policy = section.string_or("dense_policy", "anon");
  row.threads = section.optional_integer("threads", 1, kMost).value_or(0);
}

// The first size that is there as null; "" where all are recorded.
std::string missing_size(Section& section) {
  for (const char* key : {"top_k", "layers", "experts", "expert_bytes_by_layer_count",
                          "dense_bytes_per_token", "head_bytes_per_token"}) {
    if (section.json().contains(key) && section.json().at(key).is_null()) return key;
  }
  return "";
}

void read_shape(Section& section, TargetRow& row) {
  row.missing = missing_size(section);
  if (!row.missing.empty()) return;
  row.top_k = section.integer("top_k", 1, kMost);
  row.layers = section.integer("layers", 1, kMost);
  row.experts = section.integer("experts", row.top_k, kMost);
  row.expert_bytes = read_expert_bytes(section);
  std::size_t layers = 0;
  for (const auto& size : row.expert_bytes) layers += size.second;
  if (layers != row.layers) {
    throw section.error("expert_bytes_by_layer_count",
                        fmt::format("expected sizes for {} layers, got {}", row.layers, layers));
  }
  row.dense_bytes = section.integer("dense_bytes_per_token", 0, kMostBytes);
  row.head_bytes = section.integer("head_bytes_per_token", 0, kMostBytes);
}

TargetRow read_row(Section section) {
  TargetRow row;
  row.place = section.file() + ": " + section.pointer();
  row.id = section.string("id");
  row.set = section.string_or("set", "");
  row.role = section.string_or("role", "check");
  row.group = section.string_or("group", "");
  row.file = section.string_or("file", "");
  row.device = section.string("device");
  row.model = section.string("model");
  row.format = section.string_or("format", "");
  row.tokens = section.integer("tokens", 1, kMostTokens);
  row.prompt_tokens = section.integer_or("prompt_tokens", 0, 0, kMostTokens);
  row.route_trace = section.string_or("route_trace", "");
  row.state = section.string_or("state", "unknown");
  read_engine(section, row);
  read_shape(section, row);
  row.sensors = read_sensors(section);
  row.measured = section.object("measured").json();
  row.tokens_dropped = section.object("measured").integer_or("tokens_dropped", 0, 0, kMost);
  if (row.tokens_dropped >= row.tokens) {
    throw section.error("tokens", fmt::format("expected more than the {} that are dropped, got {}",
                                              row.tokens_dropped, row.tokens));
  }
  return row;
}

TargetContrast read_contrast(Section section, const std::set<std::string>& ids) {
  TargetContrast contrast;
  contrast.id = section.string_or("id", "");
  contrast.what = section.string_or("what", "");
  contrast.a = section.string("a");
  contrast.b = section.string("b");
  for (const char* key : {"a", "b"}) {
    if (ids.count(section.string(key)) == 0) {
      throw section.error(key, "expected the id of a row, got \"" + section.string(key) + "\"");
    }
  }
  contrast.metric = section.string("metric");
  contrast.effect_pct = section.number("effect_pct");
  contrast.score = section.boolean_or("score", false);
  return contrast;
}

// The elements of an array of objects, each a section of its own.
std::vector<Section> elements(Section& root, const std::string& key) {
  const Json& array = root.raw(key);
  if (!array.is_array()) throw root.error(key, "expected an array, got " + array.dump());
  std::vector<Section> sections;
  sections.reserve(array.size());
  for (std::size_t i = 0; i < array.size(); ++i) {
    sections.emplace_back(array[i], root.file(), fmt::format("/{}/{}", key, i));
  }
  return sections;
}

}  // namespace

TargetFile read_targets(const std::string& path, const std::string& shown) {
  Section root(read_json_file(path, shown), shown, "");
  TargetFile targets;
  targets.shown = shown;
  const std::string schema = root.string("schema");
  if (schema != kSchema) {
    throw root.error("schema", fmt::format("expected \"{}\", got \"{}\"", kSchema, schema));
  }
  std::set<std::string> ids;
  for (Section& section : elements(root, "rows")) {
    targets.rows.push_back(read_row(section));
    if (!ids.insert(targets.rows.back().id).second) {
      throw section.error(
          "id", "expected an id of its own, got \"" + targets.rows.back().id + "\" a second time");
    }
  }
  if (targets.rows.empty()) throw root.error("rows", "expected at least one row, got none");
  root.know("contrasts");
  if (root.has("contrasts")) {
    for (Section& section : elements(root, "contrasts")) {
      targets.contrasts.push_back(read_contrast(section, ids));
    }
  }
  return targets;
}

std::optional<double> metric_of(const Json& numbers, const std::string& dotted) {
  const Json* node = &numbers;
  std::size_t begin = 0;
  for (;;) {
    const std::size_t dot = dotted.find('.', begin);
    const std::string key = dotted.substr(begin, dot - begin);
    if (!node->is_object()) return std::nullopt;
    const auto found = node->find(key);
    if (found == node->end()) return std::nullopt;
    node = &*found;
    if (dot == std::string::npos) break;
    begin = dot + 1;
  }
  return node->is_number() ? std::optional(node->get<double>()) : std::nullopt;
}

}  // namespace moesim
