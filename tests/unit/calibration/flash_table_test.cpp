#include "calibration/flash_table.h"

#include <fstream>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/flash_table") {
  FlashTable table_of(const std::string& text) {
    const TemporaryFolder folder;
    const std::filesystem::path path = folder.path() / "t.csv";
    std::ofstream(path) << text;
    return read_flash_table(path, "t.csv");
  }

  std::string error_of(const std::string& text) {
    return user_error_of([&] { table_of(text); });
  }

  TEST_CASE("columns may stand in any order among others") {
    const FlashTable table = table_of(
        "state, lanes ,mib_per_s,read_kib\r\n"
        "cool,2,953.5,128\r\n"
        "\r\n"
        "hot,16,1,0.5\r\n");
    REQUIRE(table.size() == 2);
    CHECK(table[0].read_bytes == 131072);
    CHECK(table[0].lanes == 2);
    CHECK(table[0].bytes_per_s == 953.5 * 1048576.0);
    CHECK(table[1].read_bytes == 512);
    CHECK(table[1].lanes == 16);
  }

  TEST_CASE("errors name file and line") {
    CHECK(error_of("") == "t.csv:1: expected a column read_kib, got ");
    CHECK(error_of("read_kib,mib_per_s\n1,2\n") ==
          "t.csv:1: expected a column lanes, got read_kib,mib_per_s");
    CHECK(error_of("read_kib,lanes,mib_per_s\n") ==
          "t.csv: expected rows below the header, got none");
    CHECK(error_of("read_kib,lanes,mib_per_s\n128,2,900\n\n256,4\n") ==
          "t.csv:4: expected 3 fields, got 2");
  }

  TEST_CASE("numbers are whole fields in their range") {
    const std::string header = "read_kib,lanes,mib_per_s\n128,2,900\n";
    CHECK(error_of(header + "0,2,900\n") ==
          "t.csv:3: read_kib: expected a number in [0.0009765625, 1073741824], got \"0\"");
    CHECK(error_of(header + "128k,2,900\n") ==
          "t.csv:3: read_kib: expected a number in [0.0009765625, 1073741824], got \"128k\"");
    CHECK(error_of(header + "128,1.5,900\n") ==
          "t.csv:3: lanes: expected a whole number, a number in [1, 4096], got \"1.5\"");
    CHECK(error_of(header + "128,2,nan\n") ==
          "t.csv:3: mib_per_s: expected a number in (0, 1048576], got \"nan\"");
    CHECK(error_of(header + "128,2,\n") ==
          "t.csv:3: mib_per_s: expected a number in (0, 1048576], got \"\"");
  }

  TEST_CASE("a missing file is named") {
    CHECK(contains(user_error_of([] { read_flash_table("/nowhere/t.csv", "t.csv"); }), "t.csv: "));
  }
}

}  // namespace moesim::test
