// Mario928/speculative-moe: JSON lines, one routing decision each, layer after layer, of Mixtral
// under vLLM. Two variants: `token_idx` numbers the decoded tokens of a layer; `token_pos` gives
// prompt positions and then 0 for each decoded token.
//
// Kept: ranked ids, weights renormalised over the pair, problems as sequences. Left out: which
// token a missing row belongs to. The recorder dropped rows with weights of exactly 0.5 and 0.5
// before numbering, so that decoded rows are aligned by their order within a layer and the cells
// missing at the end are absent; prompt rows have positions, so their gaps lie where they were.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/errors.h"
#include "trace/importers/compact_recording.h"
#include "trace/importers/formats.h"

namespace moesim {
namespace {

constexpr std::size_t kMixtralExperts = 8;
constexpr std::size_t kMostLayers = 65535;

struct Decision {
  LinePlace place;
  std::vector<std::size_t> experts;
  std::vector<double> weights;
};

// The rows of one layer of one problem.
struct LayerRows {
  std::map<std::size_t, Decision> prompt;  // by position
  std::vector<Decision> decoded;           // in record order
};

struct Problem {
  std::string name;
  std::map<std::size_t, LayerRows> layers;
};

// What the rows of all inputs share.
struct Recording {
  bool with_positions = false;  // the variant with token_pos
  std::size_t last_layer = 0;
  std::vector<Problem> problems;  // in order of first appearance
  std::map<std::string, std::size_t> problem_of_name;
};

std::string problem_name(Section& row) {
  const Json& id = row.raw("problem_id");
  if (!id.is_string() && !id.is_number_integer()) {
    throw row.error("problem_id", "expected an integer or a string, got " + shown_text(id.dump()));
  }
  return row.string("dataset") + "/" + (id.is_string() ? id.get<std::string>() : id.dump());
}

Decision read_decision(Section& row, const LinePlace& place) {
  Decision decision;
  decision.place = place;
  decision.experts = integers(row, "experts", 0, CompactRecording::kMaxExperts - 1);
  decision.weights = row.numbers("gating_probs", kUnitInterval);
  if (decision.weights.size() != decision.experts.size()) {
    throw row.error("gating_probs",
                    fmt::format("expected {} numbers, one for each of /experts, got {}",
                                decision.experts.size(), decision.weights.size()));
  }
  double sum = 0;
  for (const double weight : decision.weights) sum += weight;
  if (std::abs(sum - 1.0) > 0.01) {
    throw row.error("gating_probs", fmt::format("expected numbers that sum to 1, got {}", sum));
  }
  return decision;
}

void add_indexed(Section& row, Decision decision, LayerRows& layer) {
  const std::size_t index = row.integer("token_idx");
  if (index != layer.decoded.size()) {
    throw row.error("token_idx",
                    fmt::format("expected {}, the number of this layer's rows so far, got {}",
                                layer.decoded.size(), index));
  }
  layer.decoded.push_back(std::move(decision));
}

// Position 0 is the prompt's only as a layer's first row; later it marks a decoded token.
void add_positioned(Section& row, Decision decision, LayerRows& layer) {
  constexpr std::size_t kLongestPrompt = std::size_t{1} << 24U;
  const std::size_t position = row.integer("token_pos", 0, kLongestPrompt);
  if (position == 0 && !layer.prompt.empty()) {
    layer.decoded.push_back(std::move(decision));
    return;
  }
  if (!layer.decoded.empty()) {
    throw row.error("token_pos",
                    fmt::format("expected 0 once decoding has begun, got {}", position));
  }
  if (!layer.prompt.empty() && position <= layer.prompt.rbegin()->first) {
    throw row.error("token_pos", fmt::format("expected 0 or a position after {}, got {}",
                                             layer.prompt.rbegin()->first, position));
  }
  layer.prompt.emplace(position, std::move(decision));
}

void read_file(LineReader& lines, bool first_file, Recording& recording) {
  for (bool first = first_file; lines.next(); first = false) {
    Section row = lines.json();
    if (first) recording.with_positions = row.has("token_pos");
    const std::string name = problem_name(row);
    const auto [found, is_new] = recording.problem_of_name.emplace(name, recording.problems.size());
    if (is_new) recording.problems.push_back({name, {}});
    const std::size_t layer = row.integer("layer", 0, kMostLayers - 1);
    recording.last_layer = std::max(recording.last_layer, layer);
    LayerRows& rows = recording.problems[found->second].layers[layer];
    Decision decision = read_decision(row, lines.place());
    if (recording.with_positions) {
      add_positioned(row, std::move(decision), rows);
    } else {
      add_indexed(row, std::move(decision), rows);
    }
  }
}

struct Lengths {
  std::size_t prompt = 0;
  std::size_t decoded = 0;
};

Lengths lengths_of(const Problem& problem) {
  Lengths lengths;
  for (const auto& [layer, rows] : problem.layers) {
    if (!rows.prompt.empty()) {
      lengths.prompt = std::max(lengths.prompt, rows.prompt.rbegin()->first + 1);
    }
    lengths.decoded = std::max(lengths.decoded, rows.decoded.size());
  }
  return lengths;
}

void require_every_layer(const Problem& problem, std::size_t layers, const std::string& files) {
  for (std::size_t layer = 0; layer < layers; ++layer) {
    if (problem.layers.contains(layer)) continue;
    throw user_error(files, fmt::format("expected rows of {} for layers 0 to {}, got none for "
                                        "layer {}",
                                        problem.name, layers - 1, layer));
  }
}

// Counts of one problem, for the user.
void note_problem(const Problem& problem, const Lengths& lengths, std::size_t sequence,
                  std::vector<std::string>& notes) {
  std::size_t shortest = lengths.decoded;
  std::size_t padded = 0;
  std::size_t gaps = 0;
  for (const auto& [layer, rows] : problem.layers) {
    shortest = std::min(shortest, rows.decoded.size());
    padded += lengths.decoded - rows.decoded.size();
    gaps += lengths.prompt - rows.prompt.size();
  }
  std::string note = fmt::format("sequence {} = {}: {} decoded tokens, {} complete in all layers",
                                 sequence, problem.name, lengths.decoded, shortest);
  if (padded > 0) {
    note +=
        fmt::format("; {} dropped rows stand as absent cells at the end of their layer", padded);
  }
  if (lengths.prompt > 0) {
    note += fmt::format("; {} prompt tokens, {} dropped rows are absent in place", lengths.prompt,
                        gaps);
  }
  notes.push_back(std::move(note));
}

void add_problem(const Problem& problem, const Lengths& lengths, std::size_t first_token,
                 CompactRecording& cells) {
  for (const auto& [layer, rows] : problem.layers) {
    for (const auto& [position, decision] : rows.prompt) {
      cells.add_cell(decision.place, first_token + position, layer, decision.experts,
                     decision.weights);
    }
    std::size_t token = first_token + lengths.prompt;
    for (const Decision& decision : rows.decoded) {
      cells.add_cell(decision.place, token++, layer, decision.experts, decision.weights);
    }
  }
}

}  // namespace

ImportedTrace read_speculative_moe(const ImportRequest& request) {
  std::vector<std::string> files;
  for (const auto& input : request.inputs) files.push_back(input.string());
  Recording recording;
  for (std::size_t i = 0; i < files.size(); ++i) {
    LineReader lines(request.inputs[i], files[i]);
    read_file(lines, i == 0, recording);
  }
  const std::string shown = fmt::format("{}", fmt::join(files, ", "));
  if (recording.problems.empty()) throw user_error(shown, "expected JSON lines, got none");

  ImportedTrace imported;
  TraceData& data = imported.data;
  const std::size_t layers = recording.last_layer + 1;
  CompactRecording cells(request.experts.value_or(kMixtralExperts), std::nullopt);
  std::vector<std::string> names;
  for (const Problem& problem : recording.problems) {
    require_every_layer(problem, layers, shown);
    const Lengths lengths = lengths_of(problem);
    add_problem(problem, lengths, data.sequence.size(), cells);
    note_problem(problem, lengths, names.size(), imported.notes);
    data.sequence.resize(data.sequence.size() + lengths.prompt + lengths.decoded,
                         static_cast<std::int32_t>(names.size()));
    if (recording.with_positions) {
      data.phase.insert(data.phase.end(), lengths.prompt, 0);
      data.phase.insert(data.phase.end(), lengths.decoded, 1);
    }
    names.push_back(problem.name);
  }
  cells.build(data.sequence.size(), layers, true, data);
  note_unsorted_weights(data, imported.notes);
  data.metadata.emplace("model", "Mixtral-8x7B-Instruct-v0.1");
  data.metadata.emplace("gate", "A");
  data.metadata["recorded_problems"] = fmt::format("{}", fmt::join(names, ","));
  return imported;
}

}  // namespace moesim
