#include "api/sweep_grid.h"

#include "support/testing.h"

namespace moesim::test {
namespace {

Json values_of(const std::string& text) { return read_axis(text).values; }

std::string axis_error(const std::string& text) {
  return user_error_of([&] { read_axis(text); });
}

std::string grid_error(const std::vector<std::string>& texts) {
  return user_error_of([&] {
    std::vector<SweepAxis> axes;
    for (const std::string& text : texts) axes.push_back(read_axis(text));
    SweepGrid{axes};
  });
}

}  // namespace

TEST_SUITE("api/sweep grid") {
  TEST_CASE("lists are JSON or words") {
    CHECK(values_of("/a/b=1,2.5,lru,true,null,\"7\"") == Json{1, 2.5, "lru", true, nullptr, "7"});
    CHECK(values_of("/a=[{\"x\": 1}, [2], 3]") == Json::parse(R"([{"x": 1}, [2], 3])"));
    CHECK(values_of("/a=phone:fast") == Json{"phone:fast"});
    CHECK(read_axis("/a/b=1").pointer == "/a/b");
  }

  TEST_CASE("ranges include their end where a step hits it") {
    CHECK(values_of("/a=8:32:8") == Json{8, 16, 24, 32});
    CHECK(values_of("/a=1:4:2") == Json{1, 3});
    CHECK(values_of("/a=3:1:-1") == Json{3, 2, 1});
    CHECK(values_of("/a=5:5:1") == Json{5});
    CHECK(values_of("/a=0.1:0.5:0.1").dump() == "[0.1,0.2,0.3,0.4,0.5]");
    CHECK(values_of("/a=1:2:0.5").dump() == "[1.0,1.5,2.0]");
    CHECK(values_of("/a=1e-3:3e-3:1e-3").size() == 3);
  }

  TEST_CASE("what an axis cannot be") {
    CHECK(contains(axis_error("cache=1"), "--vary cache=1: expected /POINTER=VALUES"));
    CHECK(contains(axis_error("/cache"), "expected /POINTER=VALUES"));
    CHECK(contains(axis_error("/a="), "--vary /a: expected values, got an empty one"));
    CHECK(contains(axis_error("/a=1,,2"), "expected values, got an empty one"));
    CHECK(contains(axis_error("/a=[]"), "--vary /a: expected values, got none"));
    CHECK(contains(axis_error("/a=[1,"), "--vary /a: expected JSON, got an error at line 1"));
    CHECK(contains(axis_error("/a={\"x\": 1}"), "expected objects in an array"));
    CHECK(contains(axis_error("/a=1:2"), "expected FROM:TO:STEP, got 1:2"));
    CHECK(contains(axis_error("/a=1:2:0"), "a step that does not lead from FROM to TO"));
    CHECK(contains(axis_error("/a=2:1:1"), "a step that does not lead from FROM to TO"));
    CHECK(contains(axis_error("/a=0:1:1e-9"), "more than a million values"));
    CHECK(contains(axis_error("/a=\xff"), "expected JSON or a word in UTF-8"));
  }

  TEST_CASE("the last axis runs fastest, and points keep the order of the axes") {
    const SweepGrid grid({read_axis("/z=1,2"), read_axis("/a=x,y,z")});
    REQUIRE(grid.size() == 6);
    CHECK(grid.point(0).dump() == R"({"/z":1,"/a":"x"})");
    CHECK(grid.point(1).dump() == R"({"/z":1,"/a":"y"})");
    CHECK(grid.point(5).dump() == R"({"/z":2,"/a":"z"})");
    CHECK(overrides_of(grid.point(5)) == std::vector<std::string>{"/z=2", "/a=\"z\""});
    CHECK(point_text(grid.point(5)) == "/z=2 /a=z");
  }

  TEST_CASE("axes that contradict each other") {
    CHECK(contains(grid_error({"/a=1", "/a=2"}), "--vary /a: expected one axis for it, got two"));
    CHECK(contains(grid_error({"/a/b=1", "/a=[{}]"}), "expected it before /a/b, whose value"));
    CHECK(contains(grid_error({"/cache/capacity_mib=1", "/cache/capacity_experts=1"}),
                   "expected one kind of capacity, got also /cache/capacity_mib"));
    CHECK(contains(grid_error({"/a=1,2,1"}), "expected each value once, got twice 1"));
    CHECK(contains(grid_error({"/a=1:1001:1", "/b=1:1001:1"}), "at most 1000000 points"));
  }
}

}  // namespace moesim::test
