#include "api/overrides.h"

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("api/overrides") {
  Json changed(Json root, const std::vector<std::string>& overrides,
               std::vector<std::string>* warnings = nullptr) {
    std::vector<std::string> ignored;
    apply_overrides(root, overrides, warnings != nullptr ? *warnings : ignored);
    return root;
  }

  TEST_CASE("values are JSON, bare words are strings, later ones win") {
    const Json root = changed({{"seed", 1}}, {"/seed=2", "/seed=3", "/cache/scope=global",
                                              "/device=null", "/execution={\"lanes\": 2}"});
    CHECK(root == Json{{"seed", 3},
                       {"cache", {{"scope", "global"}}},
                       {"device", nullptr},
                       {"execution", {{"lanes", 2}}}});
  }

  TEST_CASE("one capacity key removes the others") {
    const Json root = changed({{"cache", {{"capacity_experts", 8}, {"scope", "layer"}}}},
                              {"/cache/capacity_mib=100", "/cache/capacity_fraction=0.5"});
    CHECK(root["cache"] == Json{{"scope", "layer"}, {"capacity_fraction", 0.5}});
    const Json misspelt = changed({{"cache", {{"capacity_experts", 8}}}}, {"/cache/capacity_mb=1"});
    CHECK(misspelt["cache"] == Json{{"capacity_experts", 8}, {"capacity_mb", 1}});
  }

  TEST_CASE("a new policy drops the file's parameters that it lacks, and says so") {
    const Json file = {{"routing", {{"policy", "cache_prior"}, {"lambda", 0.1}, {"keep_top", 1}}}};
    std::vector<std::string> warnings;
    CHECK(changed(file, {"/routing/policy=max_rank"}, &warnings)["routing"] ==
          Json{{"policy", "max_rank"}, {"keep_top", 1}});
    REQUIRE(warnings.size() == 1);
    CHECK(contains(warnings[0], "lambda"));
  }

  TEST_CASE("what the command line itself sets stays, to be refused later") {
    const Json file = {{"routing", {{"policy", "top_k"}}}};
    CHECK(changed(file, {"/routing/lambda=0.1", "/routing/policy=max_rank"})["routing"].contains(
        "lambda"));
    CHECK(changed(file, {"/routing={\"policy\": \"cache_prior\", \"lambda\": 0.5}",
                         "/routing/policy=top_k"})["routing"]
              .contains("lambda"));
  }

  TEST_CASE("what cannot be applied is one line that names it") {
    const auto message = [](const std::string& text) {
      return user_error_of([&] { changed({{"seed", 1}}, {text}); });
    };
    CHECK(contains(message("seed=2"), "--set seed=2: expected /POINTER=VALUE"));
    CHECK(contains(message("/seed"), "expected /POINTER=VALUE"));
    CHECK(contains(message("/seed/x=2"), "expected an object at /seed, got 1"));
    CHECK(contains(message("/cache={\"a\": 1, \"a\": 2}"), "/a: duplicate key"));
    CHECK(contains(message("/cache=" + std::string(100000, '[')), "at most 64 levels"));
    CHECK(contains(message("/cache/scope=\xff"), "UTF-8"));
  }
}

}  // namespace moesim::test
