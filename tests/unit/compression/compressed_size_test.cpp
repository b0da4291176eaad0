#include "compression/compressed_size.h"

#include "config/builtin.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("compression/compressed_size") {
  TEST_CASE("Mixtral-8x7B has the nine published labels") {
    // routing_and_compression.md, section 1.1: budgets of 12 to 20 bits for eight experts.
    const MoeModel model = read_model(open_named("mixtral-8x7b", "models"));
    const std::vector<double> labels{1.572, 1.694, 1.815, 1.936, 2.058, 2.179, 2.301, 2.422, 2.543};
    for (std::size_t i = 0; i < labels.size(); ++i) {
      const double mean_bits = static_cast<double>(12 + i) / 8;
      CAPTURE(mean_bits);
      CHECK(std::abs(compressed_size(model, mean_bits, {}).label_bits - labels[i]) < 0.0006);
    }
  }

  TEST_CASE("its size is that of the paper within 2 %, and the 16-bit model's own at 16 bits") {
    const MoeModel model = read_model(open_named("mixtral-8x7b", "models"));
    const std::vector<std::pair<double, double>> published{
        {2.5, 16.24}, {2.0, 13.41}, {1.5, 10.82}};
    for (const auto& [bits, gb] : published) {
      CAPTURE(bits);
      CHECK(compressed_size(model, bits, {}).bytes * 1e-9 == doctest::Approx(gb).epsilon(0.02));
    }
    CHECK(compressed_size(model, 2.5, {}).bytes * 1e-9 == doctest::Approx(16.30).epsilon(0.0005));
    const SizeOptions uncompressed{0, 16, 16};
    CHECK(compressed_size(model, 16, uncompressed).bytes ==
          doctest::Approx(2.0 * static_cast<double>(model.total_params())));
  }

  TEST_CASE("a tied table counts once") {
    const MoeModel model = read_model(open_named("smallthinker-4b-a0.6b", "models"));
    REQUIRE(model.tie_word_embeddings);
    CHECK(compressed_size(model, 16, {0, 16, 16}).bytes ==
          doctest::Approx(2.0 * static_cast<double>(model.total_params())));
  }
}

}  // namespace moesim::test
