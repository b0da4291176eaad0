#include "calibration/dense_weights.h"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "calibration/real_run.h"
#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("calibration/dense_weights") {
  // A hidden state of two panels, the second narrower.
  Scenario wide_scenario(double bits) {
    Scenario scenario(4);
    scenario.config["model"]["hidden_size"] = 2100;
    scenario.config["weights"] = {{"expert_bits", bits}, {"dense_bits", bits}};
    return scenario;
  }

  std::size_t wrong_weights(const WeightMatrix& w) {
    std::size_t wrong = 0;
    std::vector<float> row(w.columns);
    const double largest = 1.1 * std::sqrt(3.0 / static_cast<double>(w.columns));
    for (std::size_t r = 0; r < w.rows; ++r) {
      decode_matrix_row(w, r, row);
      double squares = 0;
      for (const float weight : row) {
        squares += static_cast<double>(weight) * static_cast<double>(weight);
        if (!(std::abs(static_cast<double>(weight)) <= largest)) ++wrong;
      }
      if (squares < 0.5) ++wrong;  // 1 is expected
    }
    return wrong;
  }

  TEST_CASE("every part holds weights, in every format and for every context") {
    for (const double bits : {16.0, 8.5, 4.5}) {
      CAPTURE(bits);
      const auto plan = wide_scenario(bits).plan();
      const MoeModel& model = *plan->config().model;
      const DenseWeights dense(model, *plan->costs(), dense_format(*plan), longest_context(*plan));
      for (std::uint16_t layer = 0; layer < model.num_hidden_layers; ++layer) {
        for (std::uint32_t position = 0; position <= longest_context(*plan); ++position) {
          const WeightMatrix w = dense.matrix({TaskKind::kAttention, 0, layer}, position);
          CHECK(w.columns == 2100);
          CHECK(w.rows > 0);
          CHECK(wrong_weights(w) == 0);
        }
        CHECK(wrong_weights(dense.matrix({TaskKind::kRouter, 0, layer}, 0)) == 0);
      }
      const WeightMatrix head = dense.matrix({TaskKind::kHead}, 0);
      CHECK(wrong_weights(head) == 0);
      CHECK(head.rows <= dense.most_rows());
    }
  }

  TEST_CASE("attention grows with the context, in the same matrix") {
    const auto plan = wide_scenario(16).plan();
    const DenseWeights dense(*plan->config().model, *plan->costs(), dense_format(*plan),
                             longest_context(*plan) + 10000);
    const WeightMatrix first = dense.matrix({TaskKind::kAttention}, 0);
    const WeightMatrix later = dense.matrix({TaskKind::kAttention}, 10000);
    CHECK(first.rows < later.rows);
    CHECK(first.stored_rows == later.stored_rows);
    CHECK(first.data == later.data);
  }
}

}  // namespace moesim::test
