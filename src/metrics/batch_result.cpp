#include "metrics/batch_result.h"

#include <algorithm>
#include <map>

namespace moesim {
namespace {

// Calls `visit` with each sequence of a pass and its number of tokens after the pass.
template <class Visit>
void for_each_context(const Pass& pass, Visit visit) {
  if (pass.tokens.empty()) visit(pass.sequence, pass.position + pass.count);
  for (const PassToken& token : pass.tokens) visit(token.sequence, token.position + 1);
}

}  // namespace

BatchResult batch_result(const RunPlan& plan, std::uint64_t distinct_experts) {
  const TokenSchedule& schedule = plan.schedule();
  BatchResult result;
  result.size = plan.config().schedule.batch.size;
  result.tokens = schedule.measured_tokens;
  result.distinct_experts = distinct_experts;
  result.scheduler = schedule.scheduler;
  for (const Pass& pass : schedule.passes) {
    if (!pass.measured) continue;
    ++result.passes;
    if (plan.costs() != nullptr) result.kv_copy_bytes += plan.costs()->kv_copy_bytes(pass.tokens);
  }
  return result;
}

std::uint64_t kv_peak_bytes(const TokenSchedule& schedule, const TaskCosts& costs) {
  std::map<std::int32_t, std::size_t> last_pass;
  for (std::size_t i = 0; i < schedule.passes.size(); ++i) {
    for_each_context(schedule.passes[i],
                     [&](std::int32_t sequence, std::uint32_t) { last_pass[sequence] = i; });
  }
  std::map<std::int32_t, std::uint64_t> held;
  std::uint64_t sum = 0;
  std::uint64_t peak = 0;
  for (std::size_t i = 0; i < schedule.passes.size(); ++i) {
    for_each_context(schedule.passes[i], [&](std::int32_t sequence, std::uint32_t tokens) {
      sum -= held[sequence];
      held[sequence] = costs.kv_bytes(tokens);
      sum += held[sequence];
    });
    peak = std::max(peak, sum);
    for_each_context(schedule.passes[i], [&](std::int32_t sequence, std::uint32_t) {
      if (last_pass[sequence] != i) return;
      sum -= held[sequence];
      held.erase(sequence);
    });
  }
  return peak;
}

}  // namespace moesim
