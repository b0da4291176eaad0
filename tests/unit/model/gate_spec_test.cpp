#include "model/gate_spec.h"

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("model/gate_spec") {
  TEST_CASE("a gate code is one letter, what follows it is ignored") {
    CHECK(parse_gate_code("A") == GateCode::kA);
    CHECK(parse_gate_code("G") == GateCode::kG);
    CHECK(parse_gate_code("B+sg") == GateCode::kB);
    CHECK(parse_gate_code("D(8g;4;x2.5)") == GateCode::kD);
    CHECK(parse_gate_code("C x4") == GateCode::kC);
    CHECK(to_string(GateCode::kE) == "E");
  }

  TEST_CASE("anything else is no gate code") {
    for (const char* text : {"", "H", "a", "Banana", "A1", "+A"}) {
      CAPTURE(text);
      CHECK(!parse_gate_code(text).has_value());
    }
  }
}

}  // namespace moesim::test
