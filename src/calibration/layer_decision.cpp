#include "calibration/layer_decision.h"

#include "trace/synthetic.h"
#include "trace/trace_writer.h"

namespace moesim {

LayerDecision::LayerDecision() {
  SyntheticOptions options;
  options.tokens = 256;
  write_trace(synthetic_trace(options), folder_.path() / "trace.safetensors");
  const Json config = {{"trace", {{"path", "trace.safetensors"}}},
                       {"device", nullptr},
                       {"cache", {{"capacity_fraction", 0.25}}}};
  plan_ = std::make_unique<RunPlan>(read_run_config(config, "a layer's decision", folder_.path()));
}

void LayerDecision::decide() {
  const Pass& pass = plan_->schedule().passes[pass_];
  ExpertSession& session = plan_->session();
  if (layer_ == 0) session.begin_pass(pass);
  session.decode(pass, static_cast<LayerId>(static_cast<std::uint16_t>(layer_)));
  if (++layer_ < session.shape().layers) return;
  layer_ = 0;
  pass_ = (pass_ + 1) % plan_->schedule().passes.size();
}

}  // namespace moesim
