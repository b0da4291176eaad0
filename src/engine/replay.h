// A run without time: the same session, visit by visit, for configurations without a device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/expert_session.h"
#include "engine/run_observer.h"
#include "engine/token_schedule.h"

namespace moesim {

// Runs the passes [first, end) of the schedule. All times in what `observer` hears are zero.
class Replay {
 public:
  Replay(ExpertSession& session, const TokenSchedule& schedule)
      : session_(session), schedule_(schedule) {}

  void run(std::size_t first, std::size_t end, RunObserver* observer);

 private:
  VisitOutcome visit_layer(const Pass& pass, LayerId layer, std::uint32_t execution);

  ExpertSession& session_;
  const TokenSchedule& schedule_;
  CacheCounts counted_;
};

}  // namespace moesim
