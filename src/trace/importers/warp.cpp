// sqliteai/warp: JSON lines {"tok": n, "layers": [[id, ...], ...]}, one object per decode step.
//
// Kept: which experts ran. Left out: their rank and weights, because the ids are sorted; the model
// and the number of experts, which the user adds.
#include <fmt/format.h>

#include "core/errors.h"
#include "trace/importers/compact_recording.h"
#include "trace/importers/formats.h"

namespace moesim {
namespace {

// The ids of every layer. Throws UserError unless they are arrays of integers.
std::vector<std::vector<std::size_t>> read_layers(Section& row) {
  const Json& layers = row.raw("layers");
  if (!layers.is_array() || layers.empty()) {
    throw row.error("layers", "expected a list of layers, each a list of ids, got " +
                                  shown_text(layers.dump()));
  }
  std::vector<std::vector<std::size_t>> result;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    Section ids(Json{{std::to_string(layer), layers[layer]}}, row.file(), "/layers");
    result.push_back(integers(ids, std::to_string(layer), 0, CompactRecording::kMaxExperts - 1));
  }
  return result;
}

}  // namespace

ImportedTrace read_warp(const ImportRequest& request) {
  const std::string file = request.inputs.front().string();
  LineReader lines(request.inputs.front(), file);
  CompactRecording recording(request.experts, std::nullopt);
  std::size_t tokens = 0;
  std::size_t layers = 0;
  std::size_t first_step = 0;
  for (; lines.next(); ++tokens) {
    Section row = lines.json();
    const std::size_t step = row.integer("tok");
    if (tokens == 0) first_step = step;
    if (step != first_step + tokens) {
      throw row.error("tok", fmt::format("expected {}, the step after the line before, got {}",
                                         first_step + tokens, step));
    }
    const auto ids = read_layers(row);
    if (tokens == 0) layers = ids.size();
    if (ids.size() != layers) {
      throw row.error("layers", fmt::format("expected {} layers as in the first line, got {}",
                                            layers, ids.size()));
    }
    for (std::size_t layer = 0; layer < layers; ++layer) {
      recording.add_cell(lines.place(), tokens, layer, ids[layer], {});
    }
  }
  if (tokens == 0) throw lines.error("expected JSON lines, got none");

  ImportedTrace imported;
  recording.build(tokens, layers, false, imported.data);
  imported.data.metadata.emplace("ranked", "0");
  imported.data.metadata["recorded_first_step"] = std::to_string(first_step);
  imported.notes.emplace_back("ids are sorted: their rank is lost, and there are no weights");
  if (!request.experts) note_guessed_experts(recording.experts_seen(), imported.notes);
  return imported;
}

}  // namespace moesim
