#include "calibration/core_split.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace moesim {

#if defined(__linux__)

struct CoreSplit::Sets {
  cpu_set_t all{};
  cpu_set_t compute{};
  cpu_set_t read{};

  // Should it fail, the thread keeps the cores that it has, which is no error.
  static void use(const cpu_set_t& cores) {
    static_cast<void>(sched_setaffinity(0, sizeof cores, &cores));
  }
};

CoreSplit::CoreSplit(std::size_t threads) {
  auto sets = std::make_unique<Sets>();
  if (sched_getaffinity(0, sizeof sets->all, &sets->all) != 0) return;
  if (static_cast<std::size_t>(CPU_COUNT(&sets->all)) <= threads) return;
  std::size_t computing = 0;
  for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &sets->all)) continue;
    CPU_SET(core, computing++ < threads ? &sets->compute : &sets->read);
  }
  sets_ = std::move(sets);
}

CoreSplit::~CoreSplit() {
  if (sets_) Sets::use(sets_->all);
}

void CoreSplit::read_from_here() const {
  if (sets_) Sets::use(sets_->read);
}

void CoreSplit::compute_from_here() const {
  if (sets_) Sets::use(sets_->compute);
}

#else

struct CoreSplit::Sets {};
CoreSplit::CoreSplit(std::size_t) {}
CoreSplit::~CoreSplit() = default;
void CoreSplit::read_from_here() const {}
void CoreSplit::compute_from_here() const {}

#endif

}  // namespace moesim
