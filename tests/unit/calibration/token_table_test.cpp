#include "calibration/token_table.h"

#include <fstream>

#include "support/testing.h"

namespace moesim::test {
namespace {

std::vector<double> walls_of(const std::string& text) {
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "t.csv") << text;
  return read_wall_ms(folder.path() / "t.csv", "t.csv");
}

std::string error_of(const std::string& text) {
  return user_error_of([&] { (void)walls_of(text); });
}

}  // namespace

TEST_SUITE("calibration/token_table") {
  TEST_CASE("one column is read, comments and empty lines are left out") {
    CHECK(walls_of("# cmd\nstep,wall_ms,io_ms\n1,2.5,1\n\n2,1e3,0\n# summary\n") ==
          std::vector<double>{2.5, 1000});
    CHECK(walls_of("step,wall_ms\r\n1,2.5\r\n\r\n") == std::vector<double>{2.5});
    CHECK(walls_of("").empty());
    CHECK(walls_of("wall_ms\n").empty());
  }

  TEST_CASE("what is no table of positive times is refused, with its line") {
    CHECK(error_of("# x\nstep,io_ms\n1,2\n") == "t.csv:2: expected a column wall_ms, got none");
    for (const char* cell : {"", "x", "1x", "0", "-2", "nan", "inf"}) {
      CHECK(error_of(std::string("step,wall_ms\n1,2\n2,") + cell + "\n") ==
            std::string("t.csv:3: wall_ms: expected a number > 0, got \"") + cell + "\"");
    }
    CHECK(error_of("step,wall_ms\n1\n") == "t.csv:2: wall_ms: expected a number > 0, got \"\"");
    CHECK(contains(user_error_of([] { (void)read_wall_ms("/no/such", "no.csv"); }), "no.csv: "));
  }
}

}  // namespace moesim::test
