#include "engine/access_log.h"

#include <utility>

#include "engine/replay.h"

namespace moesim {

AccessLog::AccessLog(RoutingShape shape, std::size_t events, std::size_t accesses)
    : shape_(shape), accesses_(shape.layers * shape.experts) {
  accesses_.reserve(events, accesses);
  events_.reserve(events);
  keys_.reserve(shape.experts);
}

void AccessLog::add(const LoggedEvent& event, std::span<const Access> accesses) {
  keys_.clear();
  for (const Access& access : accesses) {
    keys_.push_back(expert_key(event.layer, access.expert, shape_.experts));
  }
  accesses_.add_event(keys_);
  events_.push_back(event);
}

void AccessRecorder::on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit,
                              TimePoint /*at*/) {
  if (begun_ != &pass) begin_pass(pass);
  log_.add({layer, visit.is_union, pass.measured, resets_, pass.phase == Phase::kPrefill, token_},
           visit.accesses);
  resets_ = false;
}

// A pass that visits no layer counts and resets too.
void AccessRecorder::on_pass(const PassRecord& record) {
  if (begun_ != record.pass) begin_pass(*record.pass);
}

void AccessRecorder::begin_pass(const Pass& pass) {
  begun_ = &pass;
  resets_ = resets_ || (pass.starts_sequence && reset_ == CacheReset::kSequence);
  token_ += pass.phase == Phase::kDecode ? 1 : 0;
}

AccessLog record_accesses(ExpertSession& session, const TokenSchedule& schedule, CacheReset reset) {
  const RoutingShape shape = session.shape();
  const std::size_t events =
      schedule.passes.size() * shape.layers * session.routing().max_executions();
  AccessLog log(shape, events, events * session.max_visit_experts());
  AccessRecorder recorder(log, reset);
  Replay(session, schedule).run(0, schedule.passes.size(), &recorder);
  log.finish();
  return log;
}

ReplayCounts replay_accesses(const AccessLog& log, const CacheOptions& options,
                             std::unique_ptr<EvictionPolicy> policy,
                             std::span<const std::uint64_t> expert_bytes) {
  const RoutingShape shape = options.shape;
  ExpertCache cache(options, std::move(policy));
  CacheAccounting all(shape, {expert_bytes.begin(), expert_bytes.end()});
  ReplayCounts counts;
  std::vector<ExpertId> experts;
  experts.reserve(shape.experts);
  for (std::size_t number = 0; number < log.events(); ++number) {
    const LoggedEvent& event = log.event(number);
    if (event.resets_before) cache.reset();
    experts.clear();
    for (const ExpertKey key : log.accesses().event(number)) {
      experts.push_back(expert_of(key, shape.experts));
    }
    const CacheCounts before = all.counts();
    const EventOutcome outcome = event.is_union
                                     ? cache.visit_union(event.token, event.layer, experts)
                                     : cache.visit(event.token, event.layer, experts);
    all.count(event.token, event.layer, outcome);
    if (event.measured) counts.measured += all.counts() - before;
    if (event.is_prefill) counts.prefill += all.counts() - before;
  }
  return counts;
}

}  // namespace moesim
