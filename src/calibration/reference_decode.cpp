// The plain way to the same outputs; see real_run.h.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>

#include "calibration/real_decode.h"
#include "calibration/real_run.h"
#include "calibration/small_operators.h"
#include "calibration/token_arithmetic.h"
#include "core/errors.h"

namespace moesim {
namespace {

class ReferenceDecode {
 public:
  ReferenceDecode(RunPlan& plan, const DenseWeights& dense, const ExpertStore& store)
      : plan_(plan),
        model_(*plan.config().model),
        dense_(dense),
        store_(store),
        file_(store.path(), std::ios::binary),
        record_(store.layout().record_bytes()),
        x_(model_.hidden_size),
        input_(model_.hidden_size),
        norm_(model_.hidden_size, 1.0F),
        out_(model_.hidden_size),
        scratch_(2 * model_.moe_intermediate_size) {}

  std::uint64_t token(const Pass& pass) {
    plan_.session().begin_pass(pass);
    begin_token(pass.first, x_);
    std::size_t moe_layer = 0;
    for (std::size_t hidden = 0; hidden < model_.num_hidden_layers; ++hidden) {
      const auto number = static_cast<std::uint16_t>(hidden);
      if (model_.is_moe_layer(hidden)) {
        const auto layer = static_cast<LayerId>(static_cast<std::uint16_t>(moe_layer++));
        const std::uint32_t executions = plan_.session().executions(pass, layer);
        for (std::uint32_t i = 0; i < executions; ++i) moe_block(pass, number, layer, i);
      } else {
        mix({TaskKind::kAttention, 0, number}, pass.position);
        if (model_.dense_ffn_params() > 0) mix({TaskKind::kDenseFfn, 0, number}, pass.position);
      }
    }
    rms_norm(x_, norm_, input_);
    const AlignedFloats head = product({TaskKind::kHead}, pass.position);
    return checksum_of(head, checksum_of(x_, 0));
  }

 private:
  AlignedFloats product(const Task& task, std::uint32_t position) {
    const WeightMatrix matrix = dense_.matrix(task, position);
    AlignedFloats y(matrix.rows);
    gemv(matrix, input_, y, team_);
    return y;
  }

  void mix(const Task& task, std::uint32_t position) {
    rms_norm(x_, norm_, input_);
    fold(product(task, position), x_);
  }

  void moe_block(const Pass& pass, std::uint16_t hidden, LayerId layer, std::uint32_t execution) {
    mix({TaskKind::kAttention, 0, hidden}, pass.position);
    rms_norm(x_, norm_, input_);
    const AlignedFloats router = product({TaskKind::kRouter, 0, hidden}, pass.position);
    AlignedFloats shared;
    if (model_.shared_expert_params() > 0) {
      shared = product({TaskKind::kShared, 0, hidden}, pass.position);
    }
    ExpertSession& session = plan_.session();
    const VisitOutcome visit = execution > 0 ? session.repeat(layer) : session.decode(pass, layer);
    for (const Access& access : visit.accesses) {
      expert_ffn(read(layer, access.expert), input_, scratch_, out_, team_);
      const float weight = weight_of(access.expert, visit);
      combine(out_, {&weight, 1}, x_);
    }
    fold(shared, x_);
    fold(router, x_);
  }

  ExpertWeights read(LayerId layer, ExpertId expert) {
    file_.seekg(static_cast<std::streamoff>(store_.offset(index(layer), index(expert))));
    file_.read(reinterpret_cast<char*>(record_.data()),
               static_cast<std::streamsize>(record_.size()));
    if (!file_ || !store_.is_intact(index(layer), index(expert), record_.bytes())) {
      throw user_error(store_.path().string(),
                       fmt::format("the weights of layer {}, expert {} are not what was written",
                                   index(layer), index(expert)));
    }
    return store_.layout().weights(record_.data());
  }

  RunPlan& plan_;
  const MoeModel& model_;
  const DenseWeights& dense_;
  const ExpertStore& store_;
  std::ifstream file_;
  PageMemory record_;
  ThreadTeam team_{1};
  AlignedFloats x_;
  AlignedFloats input_;
  AlignedFloats norm_;
  AlignedFloats out_;
  AlignedFloats scratch_;
};

}  // namespace

std::vector<std::uint64_t> reference_outputs(RunPlan& plan, const DenseWeights& dense,
                                             const ExpertStore& store, std::size_t passes) {
  ReferenceDecode reference(plan, dense, store);
  const std::vector<Pass>& all = plan.schedule().passes;
  std::vector<std::uint64_t> outputs;
  outputs.reserve(std::min(passes, all.size()));
  while (outputs.size() < std::min(passes, all.size())) {
    outputs.push_back(reference.token(all[outputs.size()]));
  }
  return outputs;
}

}  // namespace moesim
