#include "report/sweep_file.h"

#include <fstream>

#include "core/files.h"
#include "report/sweep_report.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

void write_text(const std::filesystem::path& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

}  // namespace

TEST_SUITE("report/sweep file") {
  TEST_CASE("a new file holds what was appended") {
    const TemporaryFolder folder;
    const auto path = folder.path() / "new.jsonl";
    {
      SweepFile file(path, false);
      CHECK(file.found().empty());
      file.append("one");
      file.append("two");
    }
    CHECK(read_text_file(path, "new") == "one\ntwo\n");
  }

  TEST_CASE("resuming keeps whole lines and cuts the last one") {
    const TemporaryFolder folder;
    const auto path = folder.path() / "old.jsonl";
    const std::string long_line(200'000, 'x');  // longer than a block that is read
    write_text(path, "one\n" + long_line + "\n{\"schema\":\"moesim.result/1\",\"pro");
    {
      SweepFile file(path, true);
      CHECK(file.found() == std::vector<std::string>{"one", long_line});
      CHECK(read_text_file(path, "old").ends_with(",\"pro"));
      file.cut();
      file.append("two");
    }
    CHECK(read_text_file(path, "old") == "one\n" + long_line + "\ntwo\n");
  }

  TEST_CASE("an end that is no part of a line is somebody else's and stays") {
    const TemporaryFolder folder;
    const auto path = folder.path() / "notes.txt";
    for (const char* text : {"my notes", "{\"schema\":\"other\"}", "one\nhalf"}) {
      CAPTURE(text);
      write_text(path, text);
      SweepFile file(path, true);
      CHECK(user_error_of([&] { file.cut(); }) ==
            path.string() + ": expected the lines of a sweep, got something else at its end");
      CHECK(read_text_file(path, "notes") == text);
    }
  }

  TEST_CASE("files that a sweep cannot have") {
    const TemporaryFolder folder;
    const auto path = folder.path() / "old.jsonl";
    const auto error = [](const std::filesystem::path& at, bool resume) {
      return user_error_of([&] { SweepFile(at, resume); });
    };
    write_text(path, "one\n");
    CHECK(contains(error(path, false), "old.jsonl: expected a new file, got one that exists"));
    CHECK(contains(error(folder.path(), true), "cannot be written: Is a directory"));
    CHECK(contains(error(folder.path() / "no" / "f", true), "No such file or directory"));
    CHECK(contains(error("/dev/null", true), "/dev/null: expected a regular file"));
    const SweepFile first(path, true);
    CHECK(contains(error(path, true), "old.jsonl: another sweep is writing it"));
  }

  TEST_CASE("the table has one row a point, times where there are some") {
    Json line = {{"point", {{"/a", 1}, {"/b", "word"}}},
                 {"throughput", nullptr},
                 {"cache", {{"hit_rate", 0.5}, {"mib_per_token", nullptr}}}};
    std::ostringstream untimed;
    write_sweep_table({sweep_row(line)}, untimed);
    CHECK(untimed.str() == "/a  /b     hit %  MiB/token\n1   word  50.000          -\n");
    line["throughput"] = {{"decode_tokens_per_s", 2.5}};
    std::ostringstream timed;
    write_sweep_table({sweep_row(line)}, timed);
    CHECK(timed.str() ==
          "/a  /b     hit %  tok/s  MiB/token\n1   word  50.000  2.500          -\n");
    line["point"] = {{"/a", {{"x", 1}, {"y", {{"z", 2}}}}}};
    Json other = line;
    other["point"] = {{"/a", {{"x", 1}, {"y", {{"z", 3}}}}}};
    Json empty = line;
    empty["point"] = {{"/a", {{"x", 1}}}};
    std::ostringstream objects;
    write_sweep_table({sweep_row(line), sweep_row(other), sweep_row(empty)}, objects);
    CHECK(contains(objects.str(), "\ny/z=2  50.000"));
    CHECK(contains(objects.str(), "\ny/z=3  50.000"));
    CHECK(contains(objects.str(), "\n{}     50.000"));
    std::ostringstream none;
    write_sweep_table({}, none);
    CHECK(none.str().empty());
  }
}

}  // namespace moesim::test
