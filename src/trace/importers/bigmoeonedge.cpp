// BigMoeOnEdge `route_trace v1`: CSV after a preamble that states the model and, per layer, the
// size of an expert. One row is one expert that ran; `step` is the absolute position.
//
// Kept: ids in router rank, applied weights (sum 1 over the selected), prompt and decode, turns as
// sequences, expert sizes. Left out: residency and bytes read, which belong to the recorder's own
// cache. Sizes come from the preamble alone, because a row that hit the cache prints 0 bytes.
#include <fmt/format.h>

#include <filesystem>
#include <map>
#include <sstream>
#include <tuple>

#include "core/errors.h"
#include "trace/importers/compact_recording.h"
#include "trace/importers/formats.h"

namespace moesim {
namespace {

constexpr std::string_view kMagic = "# route_trace v1";

// "model=a b arch=c" -> {model: "a b", arch: c}: a word without '=' continues the value before it,
// as in a path with spaces.
std::map<std::string, std::string> key_values(std::string_view text) {
  std::map<std::string, std::string> result;
  std::istringstream words{std::string(text)};
  std::string* last = nullptr;
  for (std::string word; words >> word;) {
    const auto equals = word.find('=');
    if (equals == std::string::npos) {
      if (last != nullptr) *last += " " + word;
      continue;
    }
    last = &(result[word.substr(0, equals)] = word.substr(equals + 1));
  }
  return result;
}

struct LayerFacts {
  std::size_t layer = 0;  // as recorded
  std::size_t expert_bytes = 0;
  std::string dense_bytes;
};

struct Preamble {
  std::map<std::string, std::string> facts;
  std::size_t experts = 0;
  std::size_t k = 0;
  LinePlace facts_place;
  std::vector<LayerFacts> layers;  // those with experts, in order
};

std::size_t fact(const LineReader& lines, const std::map<std::string, std::string>& facts,
                 const std::string& key, std::size_t low, std::size_t high) {
  const auto found = facts.find(key);
  const auto value = found == facts.end() ? std::nullopt : parse_integer(found->second);
  if (!value || *value < low || *value > high) {
    throw lines.error(
        fmt::format("expected {}=N with N in [{}, {}], got {}", key, low, high,
                    found == facts.end() ? "no such key" : shown_text(found->second)));
  }
  return *value;
}

void read_layer_line(const LineReader& lines, const std::map<std::string, std::string>& facts,
                     Preamble& preamble) {
  constexpr std::size_t kMostBytes = std::size_t{1} << 50U;
  LayerFacts layer;
  layer.layer = fact(lines, facts, "layer", 0, 65535);
  layer.expert_bytes = fact(lines, facts, "expert_bytes", 0, kMostBytes);
  const auto dense = facts.find("dense_bytes");
  if (dense != facts.end()) layer.dense_bytes = dense->second;
  if (layer.expert_bytes == 0) return;  // A dense layer: no expert, no row.
  if (!preamble.layers.empty() && layer.layer <= preamble.layers.back().layer) {
    throw lines.error(fmt::format("expected a layer after {}, got layer={}",
                                  preamble.layers.back().layer, layer.layer));
  }
  preamble.layers.push_back(std::move(layer));
}

Preamble read_preamble(LineReader& lines) {
  if (!lines.next() || lines.line() != kMagic) {
    throw lines.error(fmt::format("expected \"{}\", got {}", kMagic, shown_text(lines.line())));
  }
  Preamble preamble;
  while (lines.next_starts_with("#")) {
    lines.next();
    auto facts = key_values(lines.line().substr(1));
    if (facts.contains("layer")) {
      read_layer_line(lines, facts, preamble);
    } else if (facts.contains("model")) {
      preamble.experts = fact(lines, facts, "n_expert", 1, CompactRecording::kMaxExperts);
      preamble.k = fact(lines, facts, "n_expert_used", 1, preamble.experts);
      preamble.facts = std::move(facts);
      preamble.facts_place = lines.place();
    }
  }
  if (preamble.facts.empty()) {
    throw lines.error("expected a preamble line \"# model=... n_expert=... n_expert_used=...\"");
  }
  if (preamble.layers.empty()) {
    throw lines.error("expected preamble lines \"# layer=N expert_bytes=B\" with B > 0, got none");
  }
  return preamble;
}

// Tokens by (turn, step), with what tells them apart.
struct Token {
  std::size_t phase = 0;
  std::size_t order = 0;
};
using TokenKey = std::pair<std::size_t, std::size_t>;  // turn, step

struct Row {
  LinePlace place;
  TokenKey token;
  std::size_t layer;  // counted over the layers of the preamble
  std::size_t slot;
  std::size_t expert;
  float weight;
};

std::size_t layer_index(const LineReader& lines, const Preamble& preamble, std::size_t layer) {
  for (std::size_t i = 0; i < preamble.layers.size(); ++i) {
    if (preamble.layers[i].layer == layer) return i;
  }
  throw lines.error(
      fmt::format("layer: expected a layer of the preamble with expert_bytes > 0, got {}", layer));
}

std::vector<Row> read_rows(LineReader& lines, const Preamble& preamble,
                           std::map<TokenKey, Token>& tokens) {
  enum Column : std::size_t { kTurn, kPhase, kStep, kLayer, kSlot, kExpert, kWeight, kRes, kBytes };
  constexpr std::size_t kLargestTurn = 0x7FFFFFFF;  // `sequence` is I32
  CsvRows csv(lines, {"turn", "phase", "step", "layer", "slot", "expert", "weight", "residency",
                      "expert_bytes"});
  std::vector<Row> rows;
  while (csv.next()) {
    const TokenKey key{csv.integer(kTurn, 0, kLargestTurn), csv.integer(kStep)};
    const std::size_t phase = csv.integer(kPhase, 0, 1);
    const Token& token = tokens.try_emplace(key, Token{phase, 0}).first->second;
    if (token.phase != phase) {
      throw lines.error(
          fmt::format("phase: expected {} as in the other rows of turn {}, step {}, "
                      "got {}",
                      token.phase, key.first, key.second, phase));
    }
    csv.integer(kRes, 0, 2);
    csv.integer(kBytes);
    const std::size_t layer = layer_index(lines, preamble, csv.integer(kLayer));
    rows.push_back({lines.place(), key, layer, csv.integer(kSlot), csv.integer(kExpert),
                    static_cast<float>(csv.number(kWeight, kNonNegative))});
  }
  if (rows.empty()) throw lines.error("expected rows after the header, got none");
  return rows;
}

std::string model_name(const std::string& path) {
  const std::string name = std::filesystem::path(path).filename().string();
  return name.ends_with(".gguf") ? name.substr(0, name.size() - 5) : name;
}

void add_metadata(const Preamble& preamble, TraceData& data) {
  data.metadata["model"] = model_name(preamble.facts.at("model"));
  for (const auto& [key, value] : preamble.facts) data.metadata["recorded_" + key] = value;
  std::vector<std::size_t> layers;
  std::vector<std::string> dense_bytes;
  for (const LayerFacts& layer : preamble.layers) {
    data.expert_bytes.push_back(static_cast<std::int64_t>(layer.expert_bytes));
    layers.push_back(layer.layer);
    dense_bytes.push_back(layer.dense_bytes);
  }
  data.metadata["layers"] = fmt::format("{}", fmt::join(layers, ","));
  data.metadata["recorded_dense_bytes"] = fmt::format("{}", fmt::join(dense_bytes, ","));
}

// Only prompt tokens at the last layer may be absent: the engine computes there what the next
// token needs, the last prompt token.
void check_cells(const std::string& file, const Preamble& preamble,
                 const std::vector<TokenKey>& keys, ImportedTrace& imported) {
  const TraceData& data = imported.data;
  const std::size_t last = data.shape.layers - 1;
  const std::size_t absent =
      count_absent(data, [&](std::size_t token, std::size_t layer) -> std::optional<UserError> {
        if (layer == last && data.phase[token] == static_cast<std::uint8_t>(Phase::kPrefill)) {
          return std::nullopt;
        }
        return user_error(
            file, fmt::format("expected rows of turn {}, step {} for layer {}, got "
                              "none",
                              keys[token].first, keys[token].second, preamble.layers[layer].layer));
      });
  if (absent == 0) return;
  imported.notes.push_back(fmt::format(
      "{} prompt tokens have no row at the last layer; those cells are absent", absent));
}

}  // namespace

ImportedTrace read_bigmoeonedge(const ImportRequest& request) {
  const std::string file = request.inputs.front().string();
  LineReader lines(request.inputs.front(), file);
  const Preamble preamble = read_preamble(lines);
  std::map<TokenKey, Token> tokens;
  const std::vector<Row> rows = read_rows(lines, preamble, tokens);

  ImportedTrace imported;
  TraceData& data = imported.data;
  std::vector<TokenKey> keys;
  for (auto& [key, token] : tokens) {
    token.order = keys.size();
    keys.push_back(key);
    data.phase.push_back(static_cast<std::uint8_t>(token.phase));
    data.sequence.push_back(static_cast<std::int32_t>(key.first));
  }
  CompactRecording recording(known_experts(request, preamble.experts, preamble.facts_place.text()),
                             preamble.k);
  for (const Row& row : rows) {
    recording.add(row.place, tokens.at(row.token).order, row.layer, row.slot, row.expert,
                  row.weight);
  }
  recording.build(keys.size(), preamble.layers.size(), true, data);
  add_metadata(preamble, data);
  check_cells(file, preamble, keys, imported);
  note_unsorted_weights(data, imported.notes);
  const bool renormalised = is_renormalised(data);
  data.metadata.emplace("gate", renormalised ? "A" : "B");
  if (!renormalised && request.gate.empty()) {
    imported.notes.emplace_back("gate B is assumed: some weights do not sum to 1");
  }
  imported.notes.emplace_back("residency and bytes read of the recorder's own cache are left out");
  return imported;
}

}  // namespace moesim
