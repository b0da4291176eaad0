#include "config/section.h"

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("config/section") {
  Section section_of(const char* text) {
    return Section(parse_json(text, "phone.json"), "phone.json", "");
  }

  TEST_CASE("an integer key refuses signs, fractions, strings and values out of range") {
    for (const char* text : {R"({"n": -1})", R"({"n": 3.5})", R"({"n": "3"})", R"({"n": 99})"}) {
      CAPTURE(text);
      CHECK(contains(user_error_of([&] { section_of(text).integer("n", 0, 10); }),
                     "phone.json: /n: expected an integer in [0, 10], got "));
    }
    CHECK(section_of(R"({"n": 3})").integer("n", 0, 10) == 3);
  }

  TEST_CASE("a number key names its range") {
    CHECK(user_error_of([] { section_of(R"({"c": -5})").number("c", kPositive); }) ==
          "phone.json: /c: expected a number > 0, got -5");
    CHECK(user_error_of([] { section_of(R"({"c": "5"})").number("c", kPositive); }) ==
          "phone.json: /c: expected a number > 0, got \"5\"");
  }

  TEST_CASE("an unread key is an error that lists the known ones and the nearest") {
    Section root = section_of(R"({"routing": {"lambda": 0.1, "lambada": 2}})");
    Section routing = root.object("routing");
    CHECK(routing.number("lambda") == 0.1);
    CHECK(user_error_of([&] { root.reject_unread_keys(); }) ==
          "phone.json: /routing/lambada: unknown key; known here: lambda; nearest: lambda");
  }

  TEST_CASE("a duplicate key is refused with its place") {
    CHECK(user_error_of([] { parse_json(R"({"a": {"b": 1, "c": 2, "b": 3}})", "x.json"); }) ==
          "x.json: /a/b: duplicate key");
    CHECK_NOTHROW(parse_json(R"({"a": {"b": 1}, "c": {"b": 1}, "d": [{"b": 1}, {"b": 2}]})", "x"));
  }

  TEST_CASE("text that is not JSON is refused with line and column") {
    CHECK(contains(user_error_of([] { parse_json("{\n \"a\": }", "x.json"); }),
                   "x.json: expected JSON, got an error at line 2, column "));
  }
}

}  // namespace moesim::test
