// What a layer visit costs on the CPU beside arithmetic: gate, routing policy, cache and eviction,
// as the real decode loop asks them, on a made-up trace.
#pragma once

#include <cstddef>
#include <memory>

#include "core/temporary_folder.h"
#include "engine/run_plan.h"

namespace moesim {

class LayerDecision {
 public:
  // 16 layers of 64 experts, eight a token, a quarter of them cached, least recently used. Writes a
  // trace of some hundred KiB into a folder of its own.
  LayerDecision();

  // Decides the next layer visit; after the last one it begins again.
  void decide();

 private:
  TemporaryFolder folder_;
  std::unique_ptr<RunPlan> plan_;
  std::size_t pass_ = 0;
  std::size_t layer_ = 0;
};

}  // namespace moesim
