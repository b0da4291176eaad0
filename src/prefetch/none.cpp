// No prediction: every expert is read on demand.
#include "prefetch/prefetcher.h"

namespace moesim {
namespace {

class NoPrefetch final : public Prefetcher {
 public:
  NoPrefetch(Section& /*config*/, const PrefetchContext& /*context*/) {}
  void predict(const PrefetchQuery& /*query*/, std::vector<ExpertKey>& /*wanted*/) override {}
  [[nodiscard]] bool active() const override { return false; }
};

MOESIM_REGISTER(Prefetcher, NoPrefetch, "none",
                About("no prefetch: every expert is read on demand", "-"));

}  // namespace
}  // namespace moesim
