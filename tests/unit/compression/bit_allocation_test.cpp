#include "compression/bit_allocation.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "core/rng.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Bits = std::vector<std::uint32_t>;

bool allowed(const AllocationProblem& problem, const Bits& bits) {
  const auto sum = std::accumulate(bits.begin(), bits.end(), std::uint64_t{0});
  if (problem.row == BudgetRow::kEqual ? sum != problem.total_bits : sum > problem.total_bits)
    return false;
  for (std::size_t width = 0; width < problem.bit_set.size(); ++width) {
    if (std::count(bits.begin(), bits.end(), problem.bit_set[width]) < problem.min_counts[width])
      return false;
  }
  return true;
}

// All choices one after the other, in lexicographical order: obviously right, and slow. Costs must
// be integers, so that sums are exact.
std::optional<AllocationSolution> brute_force(const AllocationProblem& problem) {
  const std::size_t widths = problem.bit_set.size();
  const std::size_t items = problem.costs.size() / widths;
  std::vector<AllocationChoice> best_two;
  std::vector<std::size_t> digits(items, 0);
  for (;;) {
    AllocationChoice choice;
    for (std::size_t item = 0; item < items; ++item) {
      choice.bits.push_back(problem.bit_set[digits[item]]);
      choice.objective += problem.costs[item * widths + digits[item]];
    }
    if (allowed(problem, choice.bits)) {
      best_two.push_back(choice);
      std::stable_sort(best_two.begin(), best_two.end(),
                       [](const auto& a, const auto& b) { return a.objective < b.objective; });
      if (best_two.size() > 2) best_two.pop_back();
    }
    std::size_t place = items;
    while (place > 0 && digits[place - 1] + 1 == widths) digits[--place] = 0;
    if (place == 0) break;
    ++digits[place - 1];
  }
  if (best_two.empty()) return std::nullopt;
  AllocationSolution solution{best_two[0], std::nullopt};
  if (best_two.size() == 2) solution.runner_up = best_two[1];
  return solution;
}

void check_equal(const AllocationProblem& problem) {
  const auto expected = brute_force(problem);
  const auto got = solve_allocation(problem, true);
  REQUIRE(got.has_value() == expected.has_value());
  if (!expected) return;
  CHECK(got->best.bits == expected->best.bits);
  CHECK(got->best.objective == expected->best.objective);
  REQUIRE(got->runner_up.has_value() == expected->runner_up.has_value());
  if (!expected->runner_up) return;
  CHECK(got->runner_up->objective == expected->runner_up->objective);
  CHECK(got->runner_up->bits != got->best.bits);
  CHECK(allowed(problem, got->runner_up->bits));
}

// Few different costs, so that ties are frequent.
AllocationProblem random_problem(Rng& rng, std::size_t items, const Bits& bit_set) {
  AllocationProblem problem;
  problem.bit_set = bit_set;
  for (std::size_t i = 0; i < items * bit_set.size(); ++i) {
    problem.costs.push_back(static_cast<double>(rng.below(6)));
  }
  problem.total_bits =
      items * bit_set.front() +
      rng.below(static_cast<std::uint32_t>(items * (bit_set.back() - bit_set.front()) + 2));
  problem.row = rng.below(2) == 0 ? BudgetRow::kEqual : BudgetRow::kAtMost;
  for (std::size_t width = 0; width < bit_set.size(); ++width) {
    problem.min_counts.push_back(static_cast<std::uint32_t>(rng.below(3)));
  }
  return problem;
}

}  // namespace

TEST_SUITE("compression/bit_allocation") {
  TEST_CASE("agrees with all 3^8 choices on random costs, budgets and minimum counts") {
    Rng rng(1);
    for (int i = 0; i < 12; ++i) check_equal(random_problem(rng, 8, {1, 2, 3}));
  }

  TEST_CASE("agrees with all choices for other sizes and bit sets") {
    Rng rng(2);
    for (std::size_t items = 1; items <= 6; ++items) {
      for (const Bits& bit_set : {Bits{2}, Bits{2, 4, 8}, Bits{1, 2, 4, 5}, Bits{3, 16}}) {
        for (int i = 0; i < 6; ++i) check_equal(random_problem(rng, items, bit_set));
      }
    }
  }

  TEST_CASE("of equal optima the lexicographically smallest is taken, whatever the rounding") {
    // Any two of the items may get two bits. 0.1 + 0.2 + 0.3 depends on the order in doubles.
    const AllocationProblem problem{
        {1, 2}, {0.1, 0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.0}, 7, BudgetRow::kEqual, {0, 0}};
    CHECK(solve_allocation(problem)->best.bits == Bits{1, 1, 1, 2, 2});
  }

  TEST_CASE("a budget that cannot be met has no solution") {
    AllocationProblem problem{{2, 4}, {1, 0, 1, 0, 1, 0}, 7, BudgetRow::kEqual, {0, 0}};
    CHECK(!solve_allocation(problem));  // 7 is no sum of twos and fours
    problem.total_bits = 14;
    CHECK(!solve_allocation(problem));  // above three times four
    problem.total_bits = 4;
    CHECK(!solve_allocation(problem));  // below three times two
    problem.row = BudgetRow::kAtMost;
    CHECK(!solve_allocation(problem));
    problem.total_bits = 7;
    CHECK(solve_allocation(problem)->best.bits == Bits{2, 2, 2});
    problem.min_counts = {3, 1};
    CHECK(!solve_allocation(problem));  // four experts are wanted, three are there
  }

  TEST_CASE("one problem over many items equals the best split of budgets between two halves") {
    // 60 items exceed a block of kept rows; the halves are solved for every split of the budget.
    Rng rng(3);
    AllocationProblem whole = random_problem(rng, 60, {1, 2, 3});
    whole.row = BudgetRow::kEqual;
    whole.total_bits = 125;
    whole.min_counts = {0, 0, 0};
    AllocationProblem first = whole;
    AllocationProblem second = whole;
    first.costs.resize(90);
    second.costs.erase(second.costs.begin(), second.costs.begin() + 90);
    double least = std::numeric_limits<double>::infinity();
    for (std::uint64_t bits = 30; bits <= 90; ++bits) {
      first.total_bits = bits;
      second.total_bits = whole.total_bits - bits;
      const auto one = solve_allocation(first);
      const auto other = solve_allocation(second);
      if (one && other) least = std::min(least, one->best.objective + other->best.objective);
    }
    const auto solution = solve_allocation(whole);
    REQUIRE(solution);
    CHECK(solution->best.objective == least);
    CHECK(allowed(whole, solution->best.bits));
  }

  TEST_CASE("arrays that do not fit are a defect of the caller") {
    CHECK_THROWS_AS(solve_allocation({{2, 1}, {0, 0}, 2, BudgetRow::kEqual, {0, 0}}),
                    InvariantError);
    CHECK_THROWS_AS(solve_allocation({{1, 2}, {0, 0, 0}, 2, BudgetRow::kEqual, {0, 0}}),
                    InvariantError);
    CHECK_THROWS_AS(solve_allocation({{1, 2}, {0, -1}, 2, BudgetRow::kEqual, {0, 0}}),
                    InvariantError);
  }
}

}  // namespace moesim::test
