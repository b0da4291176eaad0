#include "calibration/real_decode.h"

#include <algorithm>

#include "calibration/small_operators.h"
#include "calibration/token_arithmetic.h"
#include "core/errors.h"

namespace moesim {
namespace {

constexpr std::size_t kLineFloats = 16;  // of a cache line

std::size_t whole_lines(std::size_t floats) {
  return (floats + kLineFloats - 1) / kLineFloats * kLineFloats;
}

}  // namespace

float weight_of(ExpertId expert, const VisitOutcome& visit) {
  const Selection& executed = *visit.executed;
  if (executed.weights.empty()) return 1.0F / static_cast<float>(executed.ids.size());
  const auto found = std::find(executed.ids.begin(), executed.ids.end(), expert);
  if (found == executed.ids.end()) throw InvariantError("a visit accessed what it does not run");
  return static_cast<float>(
      executed.weights[static_cast<std::size_t>(found - executed.ids.begin())]);
}

RealDecode::RealDecode(const RealDecodeParts& parts)
    : parts_(parts),
      graph_(build_token_graph(
          *parts.plan->config().model,
          {parts.plan->session().max_visit_experts(), parts.plan->config().execution.overlap,
           parts.plan->session().routing().max_executions()})),
      hidden_(parts.plan->config().model->hidden_size),
      intermediate_(parts.plan->config().model->moe_intermediate_size),
      executions_(parts.plan->config().model->num_hidden_layers, 1),
      reads_left_(graph_.size(), 0),
      x_(hidden_),
      input_(hidden_),
      norm_(hidden_, 1.0F),
      dense_out_(parts.dense->most_rows()) {
  const std::size_t slots = parts.plan->session().max_visit_experts();
  slots_.reserve(slots);
  expert_out_.resize(slots * hidden_);
  weights_.reserve(slots);
  scratch_.resize(slots * whole_lines(2 * intermediate_));
  outputs_.reserve(parts.plan->schedule().passes.size());
  router_out_.reserve(parts.dense->most_rows());
  shared_out_.reserve(parts.dense->most_rows());
}

TimePoint RealDecode::now() const {
  return TimePoint{std::chrono::duration_cast<Duration>(Clock::now() - origin_)};
}

std::span<float> RealDecode::scratch_of(std::size_t slot) {
  return std::span(scratch_).subspan(slot * whole_lines(2 * intermediate_), 2 * intermediate_);
}

void RealDecode::run(RunObserver& observer) {
  observer_ = &observer;
  origin_ = Clock::now();
  for (const Pass& pass : parts_.plan->schedule().passes) run_pass(pass);
}

void RealDecode::follow_cache() {
  const ExpertCache& cache = parts_.plan->session().cache();
  const RoutingShape shape = parts_.plan->session().shape();
  const std::size_t keys = shape.layers * shape.experts;
  for (std::size_t i = 0; i < keys; ++i) {
    const auto key = static_cast<ExpertKey>(i);
    if (parts_.experts->has(key) && cache.residency(key) != Residency::kResident) {
      parts_.experts->release(key);
    }
  }
  for (std::size_t i = 0; i < keys; ++i) {
    const auto key = static_cast<ExpertKey>(i);
    if (!parts_.experts->has(key) && cache.residency(key) == Residency::kResident) {
      parts_.experts->load(key, *parts_.team);
    }
  }
  reads_counted_ = parts_.experts->counts();  // nobody's misses
  lane_counted_ = parts_.experts->lane_time();
}

void RealDecode::run_pass(const Pass& pass) {
  pass_ = &pass;
  ExpertSession& session = parts_.plan->session();
  session.begin_pass(pass);
  if (pass.starts_sequence) follow_cache();
  const MoeModel& model = *parts_.plan->config().model;
  for (std::size_t layer = 0; layer < model.moe_layers.size(); ++layer) {
    executions_[model.moe_layers[layer]] =
        session.executions(pass, static_cast<LayerId>(static_cast<std::uint16_t>(layer)));
  }
  pending_.assign(graph_.predecessor_counts().begin(), graph_.predecessor_counts().end());
  record_ = {};
  pass_done_ = false;
  const TimePoint start = now();
  begin_token(pass.first, x_);
  ready_.push_back(0);
  walk();
  report(start);
  const Task head{TaskKind::kHead};
  const std::size_t rows = parts_.dense->matrix(head, 0).rows;
  outputs_.push_back(checksum_of(std::span(dense_out_).first(rows), checksum_of(x_, 0)));
}

void RealDecode::report(TimePoint start) {
  record_.pass = pass_;
  record_.start = start;
  record_.end = now();
  const auto part = [&](TimePart which) -> Duration& {
    return record_.parts[static_cast<std::size_t>(which)];
  };
  part(TimePart::kOverhead) =
      (record_.end - start) - part(TimePart::kCompute) - part(TimePart::kFlashStall);
  const CacheCounts& counts = parts_.plan->session().accounting().counts();
  record_.cache = counts - cache_counted_;
  cache_counted_ = counts;
  const RealReadCounts& reads = parts_.experts->counts();
  record_.flash.reads = reads.reads - reads_counted_.reads;
  record_.flash.bytes = reads.bytes - reads_counted_.bytes;
  record_.flash.padding = reads.padding - reads_counted_.padding;
  reads_counted_ = reads;
  const std::chrono::nanoseconds lanes = parts_.experts->lane_time();
  record_.flash.lane = std::chrono::duration_cast<Duration>(lanes - lane_counted_);
  lane_counted_ = lanes;
  if (record_.flash.bytes != record_.cache.demand_bytes) {
    throw InvariantError("a pass read other bytes than its misses have");
  }
  observer_->on_pass(record_);
}

// What can start does first, then what has arrived; between the two, one product at a time.
void RealDecode::walk() {
  Duration& stall = record_.parts[static_cast<std::size_t>(TimePart::kFlashStall)];
  while (!pass_done_) {
    while (!ready_.empty()) {
      const std::uint32_t id = ready_.front();
      ready_.pop_front();
      start(id);
    }
    while (const auto tag = parts_.experts->poll()) arrived(*tag);
    if (!ready_.empty()) continue;
    if (!jobs_.empty()) {
      const std::uint32_t id = jobs_.front();
      jobs_.pop_front();
      compute(id);
      complete(id);
    } else if (fetching_ > 0) {
      const TimePoint idle = now();
      const std::uint32_t tag = parts_.experts->wait();
      stall += now() - idle;
      arrived(tag);
    } else if (!pass_done_) {
      throw InvariantError("a real pass came to a halt before its end");
    }
  }
}

bool RealDecode::takes_no_time(const Task& task) const {
  if (task.execution >= executions_[task.hidden_layer] && task.kind != TaskKind::kHead) return true;
  switch (task.kind) {
    case TaskKind::kFetched:
    case TaskKind::kAdmit:
      return true;
    case TaskKind::kFetch:
    case TaskKind::kFetchDown:
      return task.slot >= slots_.size() || !slots_[task.slot].miss;
    case TaskKind::kExpert:
    case TaskKind::kExpertDown:
      return task.slot >= slots_.size();
    default:
      return false;
  }
}

void RealDecode::start(std::uint32_t id) {
  const Task& task = graph_.task(id);
  if (takes_no_time(task)) {
    complete(id);
  } else if (task.kind == TaskKind::kFetch || task.kind == TaskKind::kFetchDown) {
    begin_fetch(id);
  } else if (task.kind == TaskKind::kCombine) {
    combine();
    complete(id);
  } else {
    jobs_.push_back(id);
  }
}

void RealDecode::complete(std::uint32_t id) {
  if (graph_.task(id).kind == TaskKind::kHead) pass_done_ = true;
  const auto& successors = graph_.successors();
  for (std::uint32_t i = graph_.first_successor(id); i < graph_.end_successor(id); ++i) {
    if (--pending_[successors[i]] == 0) ready_.push_back(successors[i]);
  }
}

// Page faults are taken here and now, by the threads that compute.
void RealDecode::begin_fetch(std::uint32_t id) {
  const Task& task = graph_.task(id);
  const bool halves = parts_.plan->config().execution.overlap == Overlap::kProjection;
  const bool is_down = task.kind == TaskKind::kFetchDown;
  const Slice first = is_down ? Slice::kDown : Slice::kGate;
  const Slice last = halves && !is_down ? Slice::kUp : Slice::kDown;
  const TimePoint begin = now();
  const std::size_t reads =
      parts_.experts->read(slots_[task.slot].key, first, last, id, *parts_.team);
  if (reads == 0) {
    record_.parts[static_cast<std::size_t>(TimePart::kFlashStall)] += now() - begin;
    complete(id);
    return;
  }
  reads_left_[id] = static_cast<std::uint16_t>(reads);
  ++fetching_;
}

void RealDecode::arrived(std::uint32_t fetch) {
  if (--reads_left_[fetch] > 0) return;
  --fetching_;
  complete(fetch);
}

void RealDecode::compute(std::uint32_t id) {
  const Task& task = graph_.task(id);
  if (task.kind == TaskKind::kExpert || task.kind == TaskKind::kExpertDown) {
    compute_expert(task);
  } else {
    compute_dense(task);
  }
}

void RealDecode::note_product(ProductKind kind, Duration real, Duration simulated,
                              std::size_t bytes) {
  record_.parts[static_cast<std::size_t>(TimePart::kCompute)] += real;
  record_.compute_bytes += bytes;
  if (!pass_->measured) return;
  ProductTime& time = product_times_[static_cast<std::size_t>(kind)];
  time.real += real;
  time.simulated += simulated;
  time.bytes += bytes;
}

void RealDecode::compute_dense(const Task& task) {
  const WeightMatrix matrix = parts_.dense->matrix(task, pass_->position);
  AlignedFloats& out = task.kind == TaskKind::kRouter   ? router_out_
                       : task.kind == TaskKind::kShared ? shared_out_
                                                        : dense_out_;
  if (out.size() < matrix.rows) out.resize(matrix.rows);
  const std::span<float> y = std::span(out).first(matrix.rows);
  // The experts, shared ones included, have the router's input.
  if (task.kind != TaskKind::kShared) rms_norm(x_, norm_, input_);
  const TimePoint begin = now();
  gemv(matrix, input_, y, *parts_.team);
  const Duration real = now() - begin;
  const TaskCosts& costs = *parts_.plan->costs();
  const ComputeCost cost = costs.task(task, pass_->position, 1);
  Duration simulated = cost.fixed + cost.nominal;
  if (task.kind == TaskKind::kAttention) simulated -= costs.layer_overhead();  // not a product
  note_product(ProductKind::kDense, real, simulated, matrix.bytes());
  if (task.kind == TaskKind::kAttention || task.kind == TaskKind::kDenseFfn) fold(y, x_);
  if (task.kind == TaskKind::kRouter) decide(task);
}

void RealDecode::compute_expert(const Task& task) {
  const TimePoint begin = now();
  const Slot& slot = slots_[task.slot];
  const ExpertWeights expert = parts_.experts->weights(slot.key);
  const std::span<float> scratch = scratch_of(task.slot);
  const std::span<float> y = std::span(expert_out_).subspan(task.slot * hidden_, hidden_);
  const bool halves = parts_.plan->config().execution.overlap == Overlap::kProjection;
  std::size_t bytes = 0;
  if (task.kind == TaskKind::kExpert) {
    expert_gate_up(expert, input_, scratch, *parts_.team);
    bytes += expert.gate.bytes() + expert.up.bytes();
  }
  if (task.kind == TaskKind::kExpertDown || !halves) {
    expert_down(expert, scratch, y, *parts_.team);
    bytes += expert.down.bytes();
  }
  const Duration real = now() - begin;
  record_.expert_bytes += bytes;
  const std::uint64_t whole = parts_.plan->expert_bytes()[static_cast<std::size_t>(slot.key)];
  const ComputeCost cost = parts_.plan->costs()->expert(task.kind, whole, 1);
  note_product(slot.miss ? ProductKind::kRead : ProductKind::kResident, real,
               cost.fixed + cost.nominal, bytes);
}

void RealDecode::decide(const Task& router) {
  ExpertSession& session = parts_.plan->session();
  const auto layer = static_cast<LayerId>(router.layer);
  const VisitOutcome visit =
      router.execution > 0 ? session.repeat(layer) : session.decode(*pass_, layer);
  slots_.clear();
  weights_.clear();
  for (const Access& access : visit.accesses) {
    const ExpertKey key = expert_key(layer, access.expert, session.shape().experts);
    slots_.push_back({key, access.kind != AccessKind::kHit});
    weights_.push_back(weight_of(access.expert, visit));
  }
  // An expert of this visit keeps its place until it has been computed (settle()).
  for (const ExpertKey gone : visit.evicted) {
    const bool is_needed = std::any_of(slots_.begin(), slots_.end(),
                                       [gone](const Slot& slot) { return slot.key == gone; });
    if (!is_needed && parts_.experts->has(gone)) parts_.experts->release(gone);
  }
  for (const Slot& slot : slots_) {
    if (slot.miss) parts_.experts->place(slot.key);
  }
  record_.experts += slots_.size();
  if (visit.visited) observer_->on_visit(*pass_, layer, visit, TimePoint{});
}

void RealDecode::combine() {
  moesim::combine(expert_out_, weights_, x_);
  fold(shared_out_, x_);
  fold(router_out_, x_);
  settle();
}

// Experts of the visit that the cache does not keep.
void RealDecode::settle() {
  const ExpertCache& cache = parts_.plan->session().cache();
  for (const Slot& slot : slots_) {
    const bool stays = cache.residency(slot.key) == Residency::kResident;
    if (!stays && parts_.experts->has(slot.key)) parts_.experts->release(slot.key);
  }
}

}  // namespace moesim
