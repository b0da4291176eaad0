#include "kernels/store/random_weights.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "support/small_store.h"

namespace moesim::test {

TEST_SUITE("kernels/store/random_weights") {
  bool has_valid_codes(const WeightPanel& panel, std::size_t row) {
    for (std::size_t at = (panel.columns + 31) / 32 * 2; at < panel.row_bytes(); ++at) {
      const auto code = std::to_integer<unsigned>(panel.row(row)[at]);
      if (panel.format == WeightFormat::kQ8 ? code == 0x80  // -128
                                            : code % 16 == 0 || code / 16 == 0) {
        return false;
      }
    }
    return true;
  }

  // Checks the mean, the variance and the codes of a matrix.
  void check_weights(const WeightMatrix& w) {
    double sum = 0;
    double squares = 0;
    bool valid = true;
    std::vector<float> row(w.columns);
    for (std::size_t i = 0; i < w.rows; ++i) {
      decode_matrix_row(w, i, row);
      for (const float weight : row) {
        valid = valid && std::isfinite(weight);
        sum += static_cast<double>(weight);
        squares += static_cast<double>(weight) * static_cast<double>(weight);
      }
    }
    for (std::size_t p = 0; w.format != WeightFormat::kFp16 && p < w.panels(); ++p) {
      const WeightPanel panel = w.panel(p);
      for (std::size_t i = 0; i < w.rows; ++i) valid = valid && has_valid_codes(panel, i);
    }
    CHECK(valid);
    const auto count = static_cast<double>(w.rows * w.columns);
    const double wanted = 1 / static_cast<double>(w.columns);
    // Of 7000 weights: five standard deviations of the mean are 0.06, of the variance 0.06.
    CHECK(std::abs(sum / count) < 0.06 * std::sqrt(wanted));
    CHECK(squares / count == doctest::Approx(wanted).epsilon(0.06));
  }

  TEST_CASE("a matrix of several panels has valid codes and the same statistics") {
    for (const WeightFormat format : kWeightFormats) {
      CAPTURE(weight_format_name(format));
      for (const std::size_t columns : {4096U, 2070U}) {
        WeightMatrix w{format, 4, columns, nullptr};
        std::vector<std::byte> memory(w.bytes());
        Rng rng(3);
        fill_random_weights(format, 4, columns, rng, memory.data());
        w.data = memory.data();
        check_weights(w);
      }
    }
  }

  TEST_CASE("weights are finite and of variance 1 / columns, and what no weight uses is 0") {
    for (const WeightFormat format : kWeightFormats) {
      CAPTURE(weight_format_name(format));
      const SmallStore file(small_shape(format));
      const ExpertStore store(file.path());
      const auto record =
          std::span(file.content()).subspan(store.offset(2, 4), store.layout().record_bytes());
      const ExpertWeights expert = store.layout().weights(record.data());
      check_weights(expert.gate);
      check_weights(expert.up);
      check_weights(expert.down);
      for (const Slice slice : {Slice::kGate, Slice::kUp, Slice::kDown}) {
        const RecordLayout& layout = store.layout();
        const auto rest = record.subspan(layout.offset(slice), layout.padded_bytes(slice))
                              .subspan(layout.bytes(slice));
        CHECK(std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; }));
      }
      // 100 columns: the last block has 4 weights.
      const std::byte* const end = expert.gate.panel(0).row(1);
      if (format == WeightFormat::kQ8)
        CHECK(std::all_of(end - 28, end, [](std::byte b) { return b == std::byte{0}; }));
      if (format == WeightFormat::kQ4) {
        CHECK(std::all_of(end - 12, end, [](std::byte b) { return b == std::byte{0x88}; }));
        CHECK(std::all_of(end - 16, end, [](std::byte b) { return b >> 4 == std::byte{8}; }));
      }
    }
  }
}

}  // namespace moesim::test
