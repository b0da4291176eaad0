#include "trace/importers/line_reader.h"

#include "unit/trace/importers/recording_files.h"

namespace moesim::test {
namespace {

TEST_SUITE("trace/importers/line_reader") {
  TEST_CASE("blank lines are skipped and counted, line ends may be CR LF") {
    RecordingFiles files;
    const auto path = files.add("in", "one\r\n\r\n  \nfour\nfive");
    const std::string shown = "in";
    LineReader lines(path, shown);
    CHECK(lines.place().text() == "in:1");
    REQUIRE(lines.next());
    CHECK(lines.line() == "one");
    CHECK(lines.next_starts_with("fo"));
    CHECK_FALSE(lines.next_starts_with("one"));
    REQUIRE(lines.next());
    CHECK(lines.line() == "four");
    CHECK(lines.place().text() == "in:4");
    REQUIRE(lines.next());
    CHECK(lines.line() == "five");
    CHECK(std::string(lines.error("wrong").what()) == "in:5: wrong");
    CHECK_FALSE(lines.next());
    CHECK_FALSE(lines.next_starts_with(""));
  }

  std::string csv_error(const std::string& content) {
    RecordingFiles files;
    const auto path = files.add("in", content);
    const std::string shown = "in";
    return user_error_of([&] {
      LineReader lines(path, shown);
      CsvRows csv(lines, {"id", "share"});
      while (csv.next()) {
        csv.integer(0, 0, 9);
        csv.number(1, kUnitInterval);
      }
    });
  }

  TEST_CASE("a wrong header, column count or value is named with its line") {
    CHECK(csv_error("") == "in:1: expected the header \"id,share\", got the end of the file");
    CHECK(csv_error("id;share\n") == "in:1: expected the header \"id,share\", got \"id;share\"");
    CHECK(csv_error("id,share\n1,0.5\n1\n") == "in:3: expected 2 columns, got 1");
    CHECK(csv_error("id,share\n1,0.5,2\n") == "in:2: expected 2 columns, got 3");
    for (const std::string value : {"10", "-1", "1.5", "x", "", " 1", "99999999999999999999"}) {
      CHECK(csv_error("id,share\n" + value + ",0.5\n") ==
            "in:2: id: expected an integer in [0, 9], got \"" + value + "\"");
    }
    for (const std::string value : {"1.5", "-0.1", "nan", "inf", "x", "", "0.5x"}) {
      CHECK(csv_error("id,share\n1," + value + "\n") ==
            "in:2: share: expected a number in [0, 1], got \"" + value + "\"");
    }
  }

  TEST_CASE("a line that is not a JSON object is named with its line") {
    CHECK(contains(import_error("warp", "{\"tok\": 0, \"layers\": [[0]]}\n{\"tok\"\n"),
                   "in:2: expected JSON, got an error at "));
    CHECK(contains(import_error("warp", "[1]\n"), "in:1: "));
    CHECK(contains(import_error("warp", "[1]\n"), "expected an object, got [1]"));
  }

  TEST_CASE("an array of integers refuses all else") {
    for (const char* value : {"[0, 1.5]", "[-1]", "[\"1\"]", "3", "[65535]"}) {
      const std::string line =
          std::string("{\"dataset\": \"d\", \"problem_id\": 0, \"layer\": 0, \"experts\": ") +
          value + ", \"gating_probs\": [1], \"token_idx\": 0}";
      CHECK(contains(import_error("speculative-moe", line),
                     "in:1: /experts: expected an array of integers in [0, 65534], got \""));
    }
  }

  TEST_CASE("long text is cut") {
    CHECK(shown_text(std::string(100, 'x')) == "\"" + std::string(60, 'x') + "...\"");
    CHECK(shown_text("short") == "\"short\"");
  }
}

}  // namespace
}  // namespace moesim::test
