#include "metrics/batch_result.h"

namespace moesim {

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

}  // namespace moesim
