// PMQ's allocation for block 0 of Mixtral-8x7B against the fixture: five budgets, two sets of
// exponents (routing_and_compression.md, section 1.1 and acceptance test 1).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "compression/bit_allocation.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

// Costs x 1000 as the authors' code has them: counts and weights as shares of the block.
std::vector<double> fixture_costs(const Json& fixture, const std::vector<double>& exponents) {
  double counts = 0;
  double sigmas = 0;
  for (const Json& expert : fixture.at("experts")) {
    counts += expert.at("count").get<double>();
    sigmas += expert.at("sigma_sum").get<double>();
  }
  std::vector<double> costs;
  for (const Json& expert : fixture.at("experts")) {
    const double phi = expert.at("count").get<double>() / counts;
    const double w = expert.at("sigma_sum").get<double>() / sigmas;
    for (const Json& eps : expert.at("eps")) {
      costs.push_back(1000 * std::pow(phi, exponents[0]) * std::pow(w, exponents[1]) *
                      std::pow(eps.get<double>(), exponents[2]));
    }
  }
  return costs;
}

AllocationProblem fixture_problem(const Json& fixture, const std::string& exponents,
                                  std::uint64_t total_bits, BudgetRow row) {
  return {fixture.at("bit_choices").get<std::vector<std::uint32_t>>(),
          fixture_costs(fixture, fixture.at("exponents").at(exponents).get<std::vector<double>>()),
          total_bits,
          row,
          {0, 1, 1}};
}

}  // namespace

TEST_SUITE("golden/pmq") {
  TEST_CASE("every budget has the optimum and the runner-up of the fixture, with = and with <=") {
    const Json fixture = golden("pmq_mixtral_block0.json");
    const double tolerance = fixture.at("relative_tolerance").get<double>();
    std::size_t rows = 0;
    for (const Json& budget : fixture.at("budgets")) {
      for (const char* exponents : {"default", "gamma_two"}) {
        const Json& expected = budget.at(exponents);
        const auto total = budget.at("total_bits").get<std::uint64_t>();
        CAPTURE(total);
        CAPTURE(exponents);
        const auto equal =
            solve_allocation(fixture_problem(fixture, exponents, total, BudgetRow::kEqual), true);
        REQUIRE(equal);
        REQUIRE(equal->runner_up);
        CHECK(equal->best.bits == expected.at("bits").get<std::vector<std::uint32_t>>());
        CHECK(equal->best.objective ==
              doctest::Approx(expected.at("objective_x1000").get<double>()).epsilon(tolerance));
        CHECK(equal->runner_up->bits ==
              expected.at("runner_up_bits").get<std::vector<std::uint32_t>>());
        CHECK(equal->runner_up->objective ==
              doctest::Approx(expected.at("runner_up_x1000").get<double>()).epsilon(tolerance));
        const auto at_most =
            solve_allocation(fixture_problem(fixture, exponents, total, BudgetRow::kAtMost));
        REQUIRE(at_most);
        CHECK(at_most->best.bits == equal->best.bits);
        CHECK(at_most->best.objective == equal->best.objective);
        ++rows;
      }
    }
    CHECK(rows == 10);
  }

  TEST_CASE("none of the 3^8 allocations is cheaper") {
    const Json fixture = golden("pmq_mixtral_block0.json");
    for (const char* exponents : {"default", "gamma_two"}) {
      for (std::uint64_t total = 12; total <= 20; ++total) {
        const AllocationProblem problem =
            fixture_problem(fixture, exponents, total, BudgetRow::kEqual);
        double least = std::numeric_limits<double>::infinity();
        for (std::size_t code = 0; code < 6561; ++code) {
          std::size_t rest = code;
          std::uint64_t sum = 0;
          std::array<int, 3> counts{};
          double cost = 0;
          for (std::size_t expert = 0; expert < 8; ++expert, rest /= 3) {
            sum += 1 + rest % 3;
            ++counts[rest % 3];
            cost += problem.costs[expert * 3 + rest % 3];
          }
          if (sum == total && counts[1] > 0 && counts[2] > 0) least = std::min(least, cost);
        }
        CAPTURE(total);
        CHECK(solve_allocation(problem)->best.objective == doctest::Approx(least).epsilon(1e-12));
      }
    }
  }
}

}  // namespace moesim::test
