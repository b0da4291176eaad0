#include "trace/trace_summary.h"

#include <algorithm>

#include "trace/decode_visits.h"
#include "trace/locality.h"
#include "trace/safetensors_file.h"
#include "trace/sequence_divergence.h"
#include "trace/tensor_rules.h"
#include "trace/token_specialisation.h"

namespace moesim {
namespace {

std::size_t count_absent_visits(const Trace& trace) {
  if (!trace.has_ids()) return 0;
  std::size_t absent = 0;
  std::vector<ExpertId> cell(trace.recorded_k());
  for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
    for (std::size_t layer = 0; layer < trace.shape().layers; ++layer) {
      absent += trace.read_ids(token, static_cast<LayerId>(layer), cell) == 0 ? 1 : 0;
    }
  }
  return absent;
}

Json tensors_json(const SafetensorsFile& file) {
  Json rows = Json::array();
  for (const auto& [name, tensor] : file.tensors()) {
    const TensorRule* const rule = find_tensor_rule(name);
    rows.push_back(
        {{"name", name},
         {"dtype", to_string(tensor.dtype)},
         {"shape", tensor.shape},
         {"meaning", rule == nullptr ? "no part of the format, ignored" : rule->meaning}});
  }
  return rows;
}

}  // namespace

TokenCounts count_tokens(const Trace& trace) {
  TokenCounts counts;
  counts.shortest = trace.shape().tokens;
  std::size_t start = 0;
  for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
    ++(trace.phase(token) == Phase::kPrefill ? counts.prefill : counts.decode);
    const bool ends =
        token + 1 == trace.shape().tokens || trace.sequence(token + 1) != trace.sequence(token);
    if (!ends) continue;
    ++counts.sequences;
    counts.shortest = std::min(counts.shortest, token + 1 - start);
    counts.longest = std::max(counts.longest, token + 1 - start);
    start = token + 1;
  }
  counts.absent_visits = count_absent_visits(trace);
  return counts;
}

Json trace_summary(const Trace& trace, std::size_t k) {
  const TokenCounts counts = count_tokens(trace);
  const DecodeVisits visits = DecodeVisits::of(trace, k);
  Json form = Json::array();
  if (trace.has_logits()) form.push_back("full");
  if (trace.has_ids()) form.push_back("compact");
  return {{"schema", "moesim.trace_summary/1"},
          {"path", trace.shown()},
          {"shape",
           {{"tokens", trace.shape().tokens},
            {"layers", trace.shape().layers},
            {"experts", trace.shape().experts},
            {"recorded_k", trace.recorded_k()}}},
          {"form", form},
          {"gate", trace.gate()},
          {"tokens",
           {{"prefill", counts.prefill},
            {"decode", counts.decode},
            {"sequences", counts.sequences},
            {"shortest_sequence", counts.shortest},
            {"longest_sequence", counts.longest},
            {"absent_visits", counts.absent_visits}}},
          {"tensors", tensors_json(trace.file())},
          {"metadata", Json(trace.metadata())},
          {"k", visits.k()},
          {"experts_from", visits.from_ids() ? "topk_ids" : "router_logits"},
          {"locality", to_json(measure_locality(visits))},
          {"token_specialisation", to_json(token_specialisation(trace, visits), kRareToken)},
          {"sequence_divergence", to_json(sequence_divergence(trace))}};
}

}  // namespace moesim
