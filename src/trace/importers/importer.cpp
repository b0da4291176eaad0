#include "trace/importers/importer.h"

#include <fmt/format.h>

#include "config/section.h"
#include "core/errors.h"
#include "core/files.h"
#include "trace/importers/formats.h"

namespace moesim {
namespace {

const Importer& importer_of(const std::string& format) {
  std::vector<std::string> names;
  for (const Importer& importer : importers()) {
    if (importer.name == format) return importer;
    names.push_back(importer.name);
  }
  throw user_error("--format", unknown_name_message(format, names));
}

void check_request(const Importer& importer, const ImportRequest& request) {
  if (request.inputs.empty() || request.inputs.size() > importer.max_inputs) {
    const std::string expected =
        importer.max_inputs == 1 ? "1 input" : fmt::format("1 to {} inputs", importer.max_inputs);
    throw user_error(importer.name,
                     fmt::format("expected {}, got {}", expected, request.inputs.size()));
  }
  constexpr std::size_t kMostExperts = TraceData::kAbsentId;
  if (request.experts && (*request.experts == 0 || *request.experts > kMostExperts)) {
    throw user_error("--experts", fmt::format("expected an integer in [1, {}], got {}",
                                              kMostExperts, *request.experts));
  }
  const std::string& gate = request.gate;
  if (!gate.empty() && (gate.size() != 1 || gate[0] < 'A' || gate[0] > 'G')) {
    throw user_error("--gate", fmt::format("expected one letter from A to G, got \"{}\"", gate));
  }
}

void apply_top_k(const ImportRequest& request, ImportedTrace& imported) {
  TraceData& data = imported.data;
  const bool compact = !data.ids.empty();
  if (request.top_k) {
    const std::size_t most = compact ? data.k : data.shape.experts;
    if (*request.top_k == 0 || *request.top_k > most) {
      throw user_error("--top-k", fmt::format("expected an integer in [1, {}] ({}), got {}", most,
                                              compact ? "the ids that a cell of the recording holds"
                                                      : "the experts of the recording",
                                              *request.top_k));
    }
    data.metadata["top_k"] = std::to_string(*request.top_k);
  } else if (compact) {
    data.metadata["top_k"] = std::to_string(data.k);
  } else {
    imported.notes.emplace_back("top_k is not recorded (set it with --top-k)");
  }
}

// The first tokens of each sequence become prompt.
void apply_prefill(const ImportRequest& request, TraceData& data) {
  if (request.prefill_tokens == 0) return;
  if (!data.phase.empty()) {
    throw user_error("--prefill",
                     "expected no --prefill with a recording that tells prompt from decode itself");
  }
  data.phase.assign(data.shape.tokens, static_cast<std::uint8_t>(Phase::kDecode));
  std::size_t position = 0;
  for (std::size_t token = 0; token < data.shape.tokens; ++token, ++position) {
    const bool starts =
        token == 0 || (!data.sequence.empty() && data.sequence[token] != data.sequence[token - 1]);
    if (starts) position = 0;
    if (position < request.prefill_tokens) {
      data.phase[token] = static_cast<std::uint8_t>(Phase::kPrefill);
    }
  }
}

std::string provenance_of(const Importer& importer, const ImportRequest& request) {
  std::string text = "imported as " + importer.name + " from ";
  for (std::size_t i = 0; i < request.inputs.size(); ++i) {
    const std::filesystem::path& input = request.inputs[i];
    text += fmt::format("{}{} (sha256 {})", i == 0 ? "" : ", ", input.filename().string(),
                        sha256_of_file(input));
  }
  return text;
}

}  // namespace

const std::vector<Importer>& importers() {
  static const std::vector<Importer> kAll = {
      {"bigmoeonedge", "route_trace v1 CSV of BigMoeOnEdge: ranked ids, weights, expert sizes", 1,
       read_bigmoeonedge},
      {"flame", "CSV seq,pos,layer,slot,expert,prob; a second file pos,token_id is optional", 2,
       read_flame},
      {"npy", "NumPy array of router logits [tokens, layers, experts]", 1, read_npy},
      {"speculative-moe", "JSON lines of Mixtral decisions: ranked pairs and weights", 64,
       read_speculative_moe},
      {"vllm-log", "JSON lines of a vLLM route log: ranked ids and weights", 1, read_vllm_log},
      {"warp", "JSON lines of sqliteai/warp: unranked ids per decode step", 1, read_warp},
  };
  return kAll;
}

ImportedTrace import_trace(const std::string& format, const ImportRequest& request) {
  const Importer& importer = importer_of(format);
  check_request(importer, request);
  ImportedTrace imported = importer.read(request);
  auto& metadata = imported.data.metadata;
  if (!request.model.empty()) metadata["model"] = request.model;
  if (!metadata.contains("model")) {
    imported.notes.emplace_back("the model is not recorded (name it with --model)");
  }
  if (!request.gate.empty()) metadata["gate"] = request.gate;
  if (!metadata.contains("gate")) {
    imported.notes.emplace_back("the gate is not recorded (name it with --gate)");
  }
  apply_top_k(request, imported);
  apply_prefill(request, imported.data);
  if (!imported.data.ids.empty()) metadata.emplace("ranked", "1");  // Unless an importer said "0".
  metadata["provenance"] = provenance_of(importer, request);
  return imported;
}

std::optional<std::size_t> known_experts(const ImportRequest& request,
                                         std::optional<std::size_t> recorded,
                                         const std::string& place) {
  if (request.experts && recorded && *request.experts != *recorded) {
    throw user_error("--experts", fmt::format("expected {} as {} says, got {}", *recorded, place,
                                              *request.experts));
  }
  return recorded ? recorded : request.experts;
}

}  // namespace moesim
