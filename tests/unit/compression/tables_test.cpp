// The two files of compression: measured errors, and an allocation.
#include "compression/error_table.h"
#include "compression/expert_allocation.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr RoutingShape kShape{1, 2, 2};

ErrorTable errors_of(const Json& file, const std::vector<std::uint32_t>& bit_set = {1, 2}) {
  return read_errors(Section(file, "errors.json", ""), kShape, bit_set);
}

Json errors_file(const Json& errors) {
  return {{"schema", "moesim.errors/1"}, {"bits", {1, 2, 4}}, {"errors", errors}};
}

std::string refusal(const Json& errors) {
  return user_error_of([&] { errors_of(errors_file(errors)); });
}

ExpertAllocation allocation_of(const Json& node) {
  return read_allocation(Section(node, "a.json", ""));
}

}  // namespace

TEST_SUITE("compression/error_table") {
  TEST_CASE("columns are picked by bit-width, one table of experts serves every layer") {
    const Json layer = {{10, 5, 1}, {20, 6, 2}};
    CHECK(errors_of(errors_file(layer), {1, 4}).values ==
          std::vector<double>{10, 1, 20, 2, 10, 1, 20, 2});
    const Json other = {{1, 2, 3}, {4, 5, 6}};
    CHECK(errors_of(errors_file({layer, other})).values ==
          std::vector<double>{10, 5, 20, 6, 1, 2, 4, 5});
  }

  TEST_CASE("the stand-in has the published ratios") {
    CHECK(stand_in_errors({1, 1, 2}, {1, 2, 3}).values ==
          std::vector<double>{2.92, 2.48, 1, 2.92, 2.48, 1});
    CHECK(contains(user_error_of([] {
                     stand_in_errors({1, 1, 2}, {2, 4});
                   }),
                   "--bit-set: expected bit-widths out of 1, 2, 3"));
  }

  TEST_CASE("what does not fit names file and place") {
    CHECK(contains(refusal({{1, 2, 3}}), "errors.json: /errors: expected 2 experts, got 1"));
    CHECK(contains(refusal({{{1, 2, 3}, {1, 2, 3}}}), "/errors: expected 2 layers, got 1"));
    CHECK(contains(refusal({{1, 2, 3}, {1, 2}}),
                   "/errors/1: expected 3 numbers, one for each of bits, got 2"));
    CHECK(
        contains(refusal({{1, 2, 3}, {1, -2, 3}}), "/errors/1/1: expected a number >= 0, got -2"));
    CHECK(contains(refusal({{{1, 2, 3}, {1, 2, 3}}, {{1, 2, 3}, {"1", 2, 3}}}),
                   "/errors/1/1/0: expected a number >= 0, got \"1\""));
    CHECK(contains(refusal(7), "/errors: expected 2 experts, got 7"));
    CHECK(contains(user_error_of([] {
                     errors_of(errors_file({{1, 2, 3}, {1, 2, 3}}), {1, 3});
                   }),
                   "/bits: expected all of the bit set 1, 3, got 1, 2, 4"));
    Json misspelt = errors_file({{1, 2, 3}, {1, 2, 3}});
    misspelt["scource"] = "x";
    CHECK(contains(user_error_of([&] { errors_of(misspelt); }), "nearest: source"));
    misspelt = errors_file({{1, 2, 3}, {1, 2, 3}});
    misspelt["schema"] = "moesim.errors/2";
    CHECK(contains(user_error_of([&] { errors_of(misspelt); }), "/schema: unknown value"));
  }
}

TEST_SUITE("compression/expert_allocation") {
  TEST_CASE("bits and overhead are read, and what sim compress adds is passed over") {
    const ExpertAllocation allocation = allocation_of({{"schema", "moesim.allocation/1"},
                                                       {"bits", {{1, 3}, {2, 4.5}}},
                                                       {"overhead_bits", 0.25},
                                                       {"factors", {{"frequency", nullptr}}}});
    CHECK(allocation.layers == 2);
    CHECK(allocation.experts == 2);
    CHECK(allocation.bits == std::vector<double>{1, 3, 2, 4.5});
    CHECK(allocation.overhead_bits == 0.25);
    CHECK(allocation.mean_bits() == 2.625);
    allocation.require({9, 2, 2}, "the trace");
    CHECK(user_error_of([&] {
            allocation.require({9, 2, 3}, "the trace t");
          }) == "a.json: /bits: expected 2 layers of 3 experts as in the trace t, got 2 of 2");
  }

  TEST_CASE("what does not fit names file and place") {
    const auto refused = [](const Json& node) {
      return user_error_of([&] { allocation_of(node); });
    };
    CHECK(contains(refused({{"bits", {{1, 3}, {2}}}}),
                   "a.json: /bits/1: expected 2 numbers as in the first layer, got 1"));
    CHECK(contains(refused({{"bits", {{1, 3}, {2, 0}}}}),
                   "/bits/1/1: expected a number in [0.5, 32], got 0"));
    CHECK(contains(refused({{"bits", {{1, "3"}}}}), "/bits/0/1: expected a number"));
    CHECK(contains(refused({{"bits", {1, 3}}}), "/bits: expected an array [layers][experts]"));
    CHECK(contains(refused({{"bits", {Json::array({1, 3})}}, {"overhead_bits", -1}}),
                   "/overhead_bits: expected a number in [0, 16], got -1"));
    CHECK(contains(refused({{"overhead_bits", 1}}), "/bits: missing key"));
    CHECK(contains(refused({{"bits", {Json::array({1, 3})}}, {"overhead", 1}}),
                   "nearest: overhead_bits"));
    CHECK(contains(refused({{"schema", "moesim.result/1"}, {"bits", {Json::array({1})}}}),
                   "/schema: unknown value"));
  }
}

}  // namespace moesim::test
