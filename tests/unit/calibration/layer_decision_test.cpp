#include "calibration/layer_decision.h"

#include "support/testing.h"

namespace moesim {

TEST_SUITE("calibration/layer_decision") {
  TEST_CASE("decisions go on beyond the end of the trace") {
    LayerDecision decision;
    for (int visit = 0; visit < 16 * 256 + 40; ++visit) CHECK_NOTHROW(decision.decide());
  }
}

}  // namespace moesim
