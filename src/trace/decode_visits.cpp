#include "trace/decode_visits.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/errors.h"
#include "core/select.h"

namespace moesim {
namespace {

std::size_t resolved_k(const Trace& trace, std::size_t k) {
  const bool given = k > 0;
  if (!given) k = trace.top_k().value_or(trace.recorded_k());
  if (k == 0) {
    throw user_error(trace.shown(),
                     "expected to know how many experts a token uses, got neither metadata "
                     "\"top_k\" nor topk_ids: give k");
  }
  const std::size_t most = trace.has_logits() ? trace.shape().experts : trace.recorded_k();
  // A recording may keep fewer ids than it ran; without a wish, what there is will do.
  if (!given) return std::min(k, most);
  if (k > most) {
    throw user_error(
        trace.shown(),
        fmt::format("expected k of at most {}, the {}, got {}", most,
                    trace.has_logits() ? "experts of a layer" : "recorded ids of a cell", k));
  }
  return k;
}

}  // namespace

DecodeVisits DecodeVisits::of(const Trace& trace, std::size_t k) {
  DecodeVisits visits;
  visits.k_ = resolved_k(trace, k);
  // The first of more ids than wanted are the best only where they are ranked.
  const bool ids_serve =
      trace.recorded_k() == visits.k_ || (trace.recorded_k() > visits.k_ && trace.ranked());
  visits.from_ids_ = !trace.has_logits() || ids_serve;
  visits.shape_ = trace.shape();
  visits.shape_.tokens = 0;
  std::vector<float> logits(trace.has_logits() ? trace.shape().experts : 0);
  std::vector<ExpertId> ids(std::max(visits.k_, trace.recorded_k()));
  std::int32_t sequence = 0;
  for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
    if (trace.phase(token) == Phase::kPrefill) continue;
    if (visits.shape_.tokens == 0 || trace.sequence(token) != sequence) {
      visits.sequence_starts_.push_back(visits.shape_.tokens);
      sequence = trace.sequence(token);
    }
    ++visits.shape_.tokens;
    for (std::size_t layer = 0; layer < trace.shape().layers; ++layer) {
      std::size_t count = visits.k_;
      if (visits.from_ids_) {
        count = std::min(count, trace.read_ids(token, static_cast<LayerId>(layer), ids));
      } else {
        trace.read_logits(token, static_cast<LayerId>(layer), logits);
        select_top_k(std::span<const float>(logits), std::span(ids).first(count));
      }
      visits.counts_.push_back(static_cast<std::uint16_t>(count));
      for (std::size_t slot = 0; slot < visits.k_; ++slot) {
        visits.ids_.push_back(static_cast<std::uint16_t>(ids[slot]));
      }
    }
  }
  visits.sequence_starts_.push_back(visits.shape_.tokens);
  return visits;
}

std::vector<VisitIds> DecodeVisits::stream(std::size_t sequence, std::size_t layer) const {
  std::vector<VisitIds> result;
  for (std::size_t token = sequence_starts_[sequence]; token < sequence_starts_[sequence + 1];
       ++token) {
    const VisitIds ids = visit(token, layer);
    if (!ids.empty()) result.push_back(ids);
  }
  return result;
}

}  // namespace moesim
