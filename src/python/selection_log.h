// Which experts ran for each measured token at each layer: what moesim.run(..., selections=True)
// returns as arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/run_observer.h"
#include "engine/run_plan.h"

namespace moesim::python {

// Rows are the measured tokens, as in the per-token table.
class SelectionLog final : public RunObserver {
 public:
  static constexpr std::uint16_t kNoExpert = 0xFFFF;

  explicit SelectionLog(const RunPlan& plan);

  void on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit, TimePoint at) override;
  void on_pass(const PassRecord& record) override;

  [[nodiscard]] std::size_t tokens() const { return tokens_; }
  [[nodiscard]] std::size_t layers() const { return layers_; }
  [[nodiscard]] std::size_t width() const { return width_; }
  // All [tokens, layers, width], in the policy's order; beyond the last expert of a visit:
  // kNoExpert, 0 and false. Weights are 0 where the trace has none.
  [[nodiscard]] const std::vector<std::uint16_t>& ids() const { return ids_; }
  [[nodiscard]] const std::vector<double>& weights() const { return weights_; }
  // Whether the cache had it; 0 or 1.
  [[nodiscard]] const std::vector<std::uint8_t>& hits() const { return hits_; }

 private:
  void write(std::size_t token, LayerId layer, const Selection& chosen,
             std::span<const Access> accesses);

  std::size_t tokens_;
  std::size_t layers_;
  std::size_t width_;
  std::size_t next_ = 0;  // the first token of the pass under way
  std::vector<std::uint16_t> ids_;
  std::vector<double> weights_;
  std::vector<std::uint8_t> hits_;
};

}  // namespace moesim::python
