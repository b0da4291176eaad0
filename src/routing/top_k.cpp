// The model's own routing: the k experts that its gate selects, with the gate's weights. The
// reference that every other policy is compared with.
#include "routing/routing_policy.h"

namespace moesim {
namespace {

class TopK final : public RoutingPolicy {
 public:
  TopK(Section& /*config*/, const RoutingContext& context) : k_(context.k) {}

  void route(const RouterVisit& visit, const ResidencyView& /*residency*/,
             Selection& chosen) override {
    chosen = visit.gate.native();
  }

  [[nodiscard]] std::size_t max_experts() const override { return k_; }
  [[nodiscard]] bool needs_logits() const override { return false; }

 private:
  std::size_t k_;
};

MOESIM_REGISTER(RoutingPolicy, TopK, "top_k",
                About("the model's own top-k routing", "the model's gate",
                      [](std::size_t) { return Json::object(); }));

}  // namespace
}  // namespace moesim
