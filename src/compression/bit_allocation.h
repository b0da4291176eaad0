// Mixed-precision allocation as a multiple-choice knapsack: one bit-width per item (an expert), so
// that the summed cost is least under a budget of bits. MC-MoE's PMQ (arXiv 2410.06270, Eq. 4)
// solves it with an integer programme; here a dynamic programme finds the same optimum exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace moesim {

// The budget row: the paper demands equality, the authors' code at most.
enum class BudgetRow : std::uint8_t { kEqual, kAtMost };

struct AllocationProblem {
  std::vector<std::uint32_t> bit_set;  // bit-widths to choose from, increasing, each > 0
  std::vector<double> costs;           // [items, bit_set], finite and >= 0
  std::uint64_t total_bits = 0;        // summed over the items
  BudgetRow row = BudgetRow::kEqual;
  std::vector<std::uint32_t> min_counts;  // [bit_set]: at least so many items of each width
};

struct AllocationChoice {
  std::vector<std::uint32_t> bits;  // [items]
  double objective = 0;             // summed costs
};

struct AllocationSolution {
  // Of equal optima the lexicographically smallest. Costs are compared as integers of 2^-60 of the
  // largest possible objective, so that rounding cannot break a tie.
  AllocationChoice best;
  // A cheapest one of all other allowed choices; absent where there is none or nobody asked.
  std::optional<AllocationChoice> runner_up;
};

// Nothing where no choice meets budget and minimum counts. Throws InvariantError for arrays that do
// not fit together.
// States: budget (above the smallest width) x product of (min_counts + 1). Time: items x states x
// bit_set, twice; memory: 2 sqrt(items) x states x 8 bytes.
std::optional<AllocationSolution> solve_allocation(const AllocationProblem& problem,
                                                   bool with_runner_up = false);

}  // namespace moesim
