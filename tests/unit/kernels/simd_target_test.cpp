#include "kernels/simd_target.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "core/errors.h"
#include "kernels/row_kernels.h"
#include "support/kernels.h"

namespace moesim::test {

TEST_SUITE("kernels/simd_target") {
  TEST_CASE("the kernels are there, and the best instructions are in use") {
    CHECK(kernel_support().available);
    CHECK(kernel_support().reason.empty());
    REQUIRE(!simd_targets().empty());
    CHECK(simd_target() == simd_targets().front());
  }

  TEST_CASE("another set can be selected, and the best again") {
    for (const std::string& target : simd_targets()) {
      select_simd_target(target);
      CHECK(simd_target() == target);
    }
    select_simd_target("");
    CHECK(simd_target() == simd_targets().front());
    CHECK_THROWS_WITH_AS(select_simd_target("ABACUS"),
                         "this CPU or program has no kernels for ABACUS", InvariantError);
  }

#if defined(__x86_64__)
  TEST_CASE("what is selected stays in use while the program asks for names") {
    // Without vectors sums are made in another order, and some of 64 results are other ones.
    Rng rng(21);
    const OwnedMatrix w(WeightFormat::kFp16, 64, 500, random_floats(rng, 64 * 500));
    const auto x = random_floats(rng, 500);
    const auto product = [&] {
      std::vector<float> y(64);
      gemv_rows(w.view(), 0, 64, x.data(), y.data());
      return y;
    };
    const auto best = product();
    select_simd_target("SCALAR");
    const auto scalar = product();
    CHECK(simd_targets().size() > 1);
    CHECK(simd_target() == "SCALAR");
    CHECK(product() == scalar);
    CHECK(scalar != best);
    select_simd_target("");
    CHECK(product() == best);
  }

  TEST_CASE("x86 can do without vectors, and uses AVX2 or AVX-512 where the CPU has them") {
    const auto targets = simd_targets();
    const auto has = [&](const char* name) {
      return std::find(targets.begin(), targets.end(), name) != targets.end();
    };
    CHECK(targets.back() == "SCALAR");
    CHECK(has("AVX2") == (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                          __builtin_cpu_supports("bmi2")));
    CHECK(has("AVX3") ==
          (has("AVX2") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")));
  }
#elif defined(__aarch64__)
  TEST_CASE("AArch64 uses NEON") { CHECK(simd_targets().front() == "NEON"); }
#endif
}

}  // namespace moesim::test
