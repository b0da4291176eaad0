// vLLM route log: JSON lines, a `meta` object and then one `route` object per row and layer.
//
// Kept: ranked ids and weights, in record order. Left out: positions. `token_idx` is a row counter
// that may restart with each forward call, rows of one call are in batch order, and the log does
// not say which row continues which, so that consecutive rows are not consecutive tokens.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/errors.h"
#include "trace/importers/compact_recording.h"
#include "trace/importers/formats.h"

namespace moesim {
namespace {

struct Meta {
  std::string place;
  std::string model;
  std::map<std::size_t, std::size_t> layers;  // logged layer -> MoE layer of the trace
  std::size_t k = 0;
  std::optional<std::size_t> experts;
  std::map<std::string, std::string> extra;  // metadata
};

// What says that rows of different layers are of one token.
struct RowKey {
  std::string request;
  std::size_t index = 0;
  bool operator==(const RowKey&) const = default;
};

Meta read_meta(LineReader& lines) {
  if (!lines.next()) throw lines.error("expected a line of type meta, got the end of the file");
  Section row = lines.json();
  if (row.string("type") != "meta") {
    throw row.error("type",
                    "expected meta on the first line, got " + shown_text(row.string("type")));
  }
  Meta meta;
  meta.place = row.file();
  meta.model = row.string("model_id");
  meta.k = row.integer("top_k", 1, CompactRecording::kMaxExperts);
  if (row.has("num_experts")) {
    meta.experts = row.integer("num_experts", 1, CompactRecording::kMaxExperts);
  }
  const auto logged = integers(row, "layers_logged", 0, 65535);
  for (std::size_t i = 0; i < logged.size(); ++i) {
    if (i > 0 && logged[i] <= logged[i - 1]) {
      throw row.error("layers_logged", fmt::format("expected rising layers, got {} after {}",
                                                   logged[i], logged[i - 1]));
    }
    meta.layers.emplace(logged[i], i);
  }
  if (logged.empty()) throw row.error("layers_logged", "expected at least one layer, got none");
  meta.extra["layers"] = fmt::format("{}", fmt::join(logged, ","));
  for (const char* key : {"vllm_version", "torch_version", "device"}) {
    if (row.has(key)) meta.extra[std::string("recorded_") + key] = row.string(key);
  }
  return meta;
}

// Reads the route lines and knows which token each is of: the n-th row of its layer.
class RouteRows {
 public:
  RouteRows(const Meta& meta, CompactRecording& cells)
      : meta_(meta), cells_(cells), rows_(meta.layers.size(), 0) {}

  void add(Section row, const LinePlace& place) {
    if (row.string("type") != "route") {
      throw row.error("type", "expected route, got " + shown_text(row.string("type")));
    }
    const std::size_t recorded = row.integer("layer");
    const auto layer = meta_.layers.find(recorded);
    if (layer == meta_.layers.end()) {
      throw row.error("layer", fmt::format("expected one of layers_logged ({}), got {}",
                                           meta_.extra.at("layers"), recorded));
    }
    const std::size_t token = rows_[layer->second]++;
    check_key(row, token);
    const auto ids = integers(row, "topk_ids", 0, CompactRecording::kMaxExperts - 1);
    const auto weights = row.numbers("topk_weights", kNonNegative);
    if (weights.size() != ids.size()) {
      throw row.error("topk_weights",
                      fmt::format("expected {} numbers, one for each of /topk_ids, got {}",
                                  ids.size(), weights.size()));
    }
    cells_.add_cell(place, token, layer->second, ids, weights);
  }

  // The number of tokens. Throws UserError unless every layer has as many rows.
  [[nodiscard]] std::size_t tokens(const std::string& file) const {
    for (const auto& [recorded, layer] : meta_.layers) {
      if (rows_[layer] == keys_.size() && !keys_.empty()) continue;
      throw user_error(file, fmt::format("expected as many rows for layer {} as for the longest "
                                         "layer ({}, at least 1), got {}",
                                         recorded, keys_.size(), rows_[layer]));
    }
    return keys_.size();
  }

  [[nodiscard]] std::size_t restarts() const {
    std::size_t count = 0;
    for (std::size_t i = 1; i < keys_.size(); ++i) {
      count += keys_[i].index <= keys_[i - 1].index ? 1 : 0;
    }
    return count;
  }

  // The request of each token by order of first appearance; empty when there is one request only
  // or when the rows of several are mixed.
  [[nodiscard]] std::vector<std::int32_t> sequences(std::vector<std::string>& notes) const {
    std::vector<std::int32_t> sequence;
    std::set<std::string> seen;
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const bool changed = i == 0 || keys_[i].request != keys_[i - 1].request;
      if (changed && !seen.insert(keys_[i].request).second) {
        notes.emplace_back("rows of several requests are mixed: the trace has no sequences");
        return {};
      }
      sequence.push_back(static_cast<std::int32_t>(seen.size()) - 1);
    }
    return seen.size() > 1 ? sequence : std::vector<std::int32_t>{};
  }

 private:
  void check_key(Section& row, std::size_t token) {
    RowKey key{row.string("req_id"), row.integer("token_idx")};
    if (token == keys_.size()) {
      keys_.push_back(std::move(key));
    } else if (keys_[token] != key) {
      throw row.error(
          "token_idx",
          fmt::format("expected row {} of every layer to be of the same token ({}, {}), "
                      "got ({}, {})",
                      token, keys_[token].request, keys_[token].index, key.request, key.index));
    }
  }

  const Meta& meta_;
  CompactRecording& cells_;
  std::vector<std::size_t> rows_;  // [layers] rows so far
  std::vector<RowKey> keys_;       // [tokens]
};

void note_order(const RouteRows& rows, const ImportRequest& request,
                std::vector<std::string>& notes) {
  std::string note = "rows of a batch are interleaved: consecutive rows are not consecutive tokens";
  if (rows.restarts() > 0) {
    note += fmt::format(" (token_idx restarts {} times, once per forward call)", rows.restarts());
  }
  notes.push_back(std::move(note));
  if (request.prefill_tokens == 0) {
    notes.emplace_back("the phase is not recorded: all rows count as decoded");
  }
}

}  // namespace

ImportedTrace read_vllm_log(const ImportRequest& request) {
  const std::string file = request.inputs.front().string();
  LineReader lines(request.inputs.front(), file);
  const Meta meta = read_meta(lines);
  const auto experts = known_experts(request, meta.experts, meta.place);
  CompactRecording recording(experts, meta.k);
  RouteRows rows(meta, recording);
  while (lines.next()) rows.add(lines.json(), lines.place());

  ImportedTrace imported;
  TraceData& data = imported.data;
  recording.build(rows.tokens(file), meta.layers.size(), true, data);
  data.sequence = rows.sequences(imported.notes);
  data.metadata = meta.extra;
  data.metadata["model"] = meta.model;
  const bool renormalised = is_renormalised(data);
  data.metadata.emplace("gate", renormalised ? "A" : "B");
  if (request.gate.empty()) {
    imported.notes.push_back(renormalised ? "gate A is assumed: the weights of every row sum to 1"
                                          : "gate B is assumed: some weights do not sum to 1");
  }
  note_unsorted_weights(data, imported.notes);
  note_order(rows, request, imported.notes);
  if (!experts) note_guessed_experts(recording.experts_seen(), imported.notes);
  return imported;
}

}  // namespace moesim
