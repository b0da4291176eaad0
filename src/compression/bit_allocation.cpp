#include "compression/bit_allocation.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "core/errors.h"

namespace moesim {
namespace {

// Objectives stay below 2^60 and a state that cannot be completed starts at 2^62, so that no sum
// of the two overflows.
constexpr int kObjectiveBits = 60;
constexpr std::int64_t kImpossible = std::int64_t{1} << 62;

void check(const AllocationProblem& problem) {
  const std::size_t widths = problem.bit_set.size();
  const bool increasing = std::adjacent_find(problem.bit_set.begin(), problem.bit_set.end(),
                                             std::greater_equal<>()) == problem.bit_set.end();
  const bool fits = widths > 0 && problem.bit_set.front() > 0 && increasing &&
                    problem.costs.size() % widths == 0 && problem.min_counts.size() == widths;
  const bool valid = std::all_of(problem.costs.begin(), problem.costs.end(),
                                 [](double cost) { return std::isfinite(cost) && cost >= 0; });
  if (!fits || !valid) throw InvariantError("an allocation problem whose arrays do not fit");
}

// Works from the last item to the first: row i holds, for each count state and each number of
// budget units left, the least cost of items i and after. Rows are kept at every sqrt(items)-th
// item only and computed again block by block when the choices are read off from the first item
// on, which makes the first width that attains the minimum the lexicographically smallest.
class Solver {
 public:
  explicit Solver(const AllocationProblem& problem)
      : problem_(problem),
        widths_(problem.bit_set.size()),
        items_(problem.costs.size() / widths_),
        block_(std::max<std::size_t>(
            1, static_cast<std::size_t>(std::ceil(std::sqrt(static_cast<double>(items_)))))) {
    set_steps();
    set_costs();
    set_count_states();
  }

  std::optional<AllocationSolution> solve(bool with_runner_up) {
    if (!possible_) return std::nullopt;
    sweep_back();
    if (start_value_ >= kImpossible) return std::nullopt;
    AllocationSolution solution;
    Detour second;
    solution.best = walk(nullptr, &second);
    if (with_runner_up && second.value < kImpossible) solution.runner_up = walk(&second, nullptr);
    return solution;
  }

 private:
  using Row = std::vector<std::int64_t>;  // [count states, units + 1]

  // Leaves the best choice at `item` for `width`: the value of the cheapest such choice.
  struct Detour {
    std::int64_t value = kImpossible;
    std::size_t item = 0;
    std::size_t width = 0;
  };

  // Budget in units above the smallest width, so that steps are small integers.
  void set_steps() {
    const std::uint64_t lowest = problem_.bit_set.front();
    std::uint64_t unit = 0;
    for (const std::uint32_t bits : problem_.bit_set) unit = std::gcd(unit, bits - lowest);
    unit = std::max<std::uint64_t>(unit, 1);
    steps_.reserve(widths_);
    for (const std::uint32_t bits : problem_.bit_set) steps_.push_back((bits - lowest) / unit);
    if (problem_.total_bits < items_ * lowest) return;
    const std::uint64_t spare = problem_.total_bits - items_ * lowest;
    const std::uint64_t most = items_ * steps_.back();
    const bool equal = problem_.row == BudgetRow::kEqual;
    if (equal && (spare % unit != 0 || spare / unit > most)) return;
    units_ = static_cast<std::size_t>(std::min(spare / unit, most));
    possible_ = true;
  }

  void set_costs() {
    double largest_sum = 0;
    for (std::size_t item = 0; item < items_; ++item) {
      const auto first = problem_.costs.begin() + static_cast<std::ptrdiff_t>(item * widths_);
      largest_sum += *std::max_element(first, first + static_cast<std::ptrdiff_t>(widths_));
    }
    const int scale = largest_sum > 0 ? kObjectiveBits - 1 - std::ilogb(largest_sum) : 0;
    costs_.reserve(problem_.costs.size());
    for (const double cost : problem_.costs)
      costs_.push_back(std::llround(std::ldexp(cost, scale)));
  }

  // A count state says how many items of each width are still missing, in mixed radix.
  void set_count_states() {
    counts_ = 1;
    for (const std::uint32_t least : problem_.min_counts) counts_ *= least + 1;
    after_.resize(counts_ * widths_);
    for (std::size_t state = 0; state < counts_; ++state) {
      std::size_t place = 1;
      for (std::size_t width = 0; width < widths_; ++width) {
        const std::size_t radix = problem_.min_counts[width] + 1;
        const bool missing = state / place % radix > 0;
        after_[state * widths_ + width] = state - (missing ? place : 0);
        place *= radix;
      }
    }
  }

  [[nodiscard]] std::int64_t cost(std::size_t item, std::size_t width) const {
    return costs_[item * widths_ + width];
  }

  // After the last item nothing may be missing, and nothing left where the budget must be met.
  void end_row(Row& row) const {
    row.assign(counts_ * (units_ + 1), kImpossible);
    const std::size_t allowed = problem_.row == BudgetRow::kEqual ? 1 : units_ + 1;
    std::fill_n(row.begin(), allowed, std::int64_t{0});
  }

  // Row `item` from the row after it. Fewer units than the items before could have left are never
  // asked for; more than the others can use are impossible where the budget must be met.
  void step_back(std::size_t item, const Row& later, Row& row) const {
    const std::size_t spent = std::min(units_, item * steps_.back());
    const std::size_t first = units_ - spent;
    const bool equal = problem_.row == BudgetRow::kEqual;
    const std::size_t last = equal ? std::min(units_, (items_ - item) * steps_.back()) : units_;
    for (std::size_t state = 0; state < counts_; ++state) {
      std::int64_t* out = row.data() + state * (units_ + 1);
      std::fill(out + first, out + units_ + 1, kImpossible);
      for (std::size_t width = 0; width < widths_; ++width) {
        const std::size_t step = steps_[width];
        const std::int64_t* in = later.data() + after_[state * widths_ + width] * (units_ + 1);
        const std::int64_t own = cost(item, width);
        for (std::size_t left = std::max(first, step); left <= last; ++left) {
          out[left] = std::min(out[left], own + in[left - step]);
        }
      }
    }
  }

  void sweep_back() {
    Row later;
    end_row(later);
    Row row(later.size(), kImpossible);
    kept_.resize(items_ / block_ + 1);
    for (std::size_t item = items_; item-- > 0;) {
      if ((item + 1) % block_ == 0 || item + 1 == items_) kept_[item / block_] = later;
      step_back(item, later, row);
      std::swap(later, row);
    }
    start_value_ = later[(counts_ - 1) * (units_ + 1) + units_];
  }

  // rows[i]: row of item first + i + 1, for the items [first, end) of a block.
  void block_rows(std::size_t first, std::size_t end, std::vector<Row>& rows) const {
    rows.resize(end - first);
    rows.back() = kept_[first / block_];
    for (std::size_t i = rows.size() - 1; i-- > 0;) {
      rows[i].resize(rows.back().size());
      step_back(first + i + 1, rows[i + 1], rows[i]);
    }
  }

  // Reads the choices off, by way of the detour where one is given; finds the cheapest detour where
  // one is asked for.
  AllocationChoice walk(const Detour* by_way_of, Detour* second) const {
    AllocationChoice choice;
    choice.bits.reserve(items_);
    std::vector<Row> rows;
    std::size_t state = counts_ - 1;
    std::size_t left = units_;
    std::int64_t spent = 0;
    for (std::size_t item = 0; item < items_; ++item) {
      const std::size_t first = item / block_ * block_;
      if (item == first) block_rows(first, std::min(items_, first + block_), rows);
      const Row& later = rows[item - first];
      std::size_t best = cheapest(item, later, state, left);
      if (second != nullptr) look_aside({spent, item, best}, later, state, left, *second);
      if (by_way_of != nullptr && by_way_of->item == item) best = by_way_of->width;
      choice.bits.push_back(problem_.bit_set[best]);
      choice.objective += problem_.costs[item * widths_ + best];
      spent += cost(item, best);
      state = after_[state * widths_ + best];
      left -= steps_[best];
    }
    return choice;
  }

  [[nodiscard]] std::int64_t value(std::size_t item, std::size_t width, const Row& later,
                                   std::size_t state, std::size_t left) const {
    if (steps_[width] > left) return kImpossible;
    const std::size_t next = after_[state * widths_ + width];
    return cost(item, width) + later[next * (units_ + 1) + left - steps_[width]];
  }

  [[nodiscard]] std::size_t cheapest(std::size_t item, const Row& later, std::size_t state,
                                     std::size_t left) const {
    std::size_t best = 0;
    for (std::size_t width = 1; width < widths_; ++width) {
      if (value(item, width, later, state, left) < value(item, best, later, state, left)) {
        best = width;
      }
    }
    return best;
  }

  // `at`: the cost before the item, the item, and its best width.
  void look_aside(const Detour& at, const Row& later, std::size_t state, std::size_t left,
                  Detour& second) const {
    for (std::size_t width = 0; width < widths_; ++width) {
      if (width == at.width) continue;
      const std::int64_t rest = value(at.item, width, later, state, left);
      if (rest < kImpossible && at.value + rest < second.value) {
        second = {at.value + rest, at.item, width};
      }
    }
  }

  const AllocationProblem& problem_;
  std::size_t widths_;
  std::size_t items_;
  std::size_t block_;                // items per kept row
  bool possible_ = false;            // the budget alone can be met
  std::size_t units_ = 0;            // budget above the smallest width
  std::vector<std::size_t> steps_;   // [widths], units that a width takes
  std::vector<std::int64_t> costs_;  // [items, widths], fixed point
  std::size_t counts_ = 1;           // count states; the last is that of the start
  std::vector<std::size_t> after_;   // [count states, widths], the state after such an item
  std::vector<Row> kept_;            // [blocks], the row after the last item of each
  std::int64_t start_value_ = kImpossible;
};

}  // namespace

std::optional<AllocationSolution> solve_allocation(const AllocationProblem& problem,
                                                   bool with_runner_up) {
  check(problem);
  return Solver(problem).solve(with_runner_up);
}

}  // namespace moesim
