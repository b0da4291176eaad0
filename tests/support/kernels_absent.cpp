// The tests of src/kernels/kernels_absent.cpp, linked with it and without the kernels.
#include <doctest/doctest.h>

#include "core/errors.h"
#include "kernels/row_kernels.h"
#include "kernels/simd_target.h"

namespace moesim::test {

TEST_CASE("without Highway the program can ask why there are no kernels, and calls say the same") {
  const KernelSupport support = kernel_support();
  CHECK(!support.available);
  CHECK(support.reason.find("libhwy-dev") != std::string::npos);
  CHECK(simd_targets().empty());

  const char* const reason = support.reason.c_str();
  const WeightPanel w{};
  float value = 0;
  CHECK_THROWS_WITH_AS(half_rows(w, 0, 0, &value, &value), reason, InvariantError);
  CHECK_THROWS_WITH_AS(q8_rows(w, 0, 0, &value, &value), reason, InvariantError);
  CHECK_THROWS_WITH_AS(q4_rows(w, 0, 0, &value, &value), reason, InvariantError);
  CHECK_THROWS_WITH_AS(swiglu(&value, &value, 0), reason, InvariantError);
  CHECK_THROWS_WITH_AS(sum_words(nullptr, 0), reason, InvariantError);
  CHECK_THROWS_WITH_AS(simd_target(), reason, InvariantError);
  CHECK_THROWS_WITH_AS(select_simd_target(""), reason, InvariantError);
}

}  // namespace moesim::test
