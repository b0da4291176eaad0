#include "kernels/simd_target.h"

#include <hwy/highway.h>

#include <cstdint>

#include "core/errors.h"

namespace moesim {
namespace {

// The sets that are both compiled and supported, best first: a lower bit is better. Highway is
// asked once, because its answer also selects the best set again.
const std::vector<std::int64_t>& usable_targets() {
  static const std::vector<std::int64_t> kUsable = [] {
    std::vector<std::int64_t> targets;
    for (std::int64_t left = (HWY_SUPPORTED_TARGETS | HWY_STATIC_TARGET) & HWY_TARGETS; left != 0;
         left &= left - 1) {
      targets.push_back(left & -left);
    }
    return targets;
  }();
  return kUsable;
}

void use(std::int64_t targets) {
#if (HWY_TARGETS & (HWY_TARGETS - 1)) != 0
  hwy::GetChosenTarget().Update(targets);
#else
  static_cast<void>(targets);  // Only one set is compiled, and called without a table.
#endif
}

// The index of the set in use among the usable ones.
std::size_t& selected() {
  static std::size_t index = 0;
  return index;
}

}  // namespace

KernelSupport kernel_support() { return {true, ""}; }

std::vector<std::string> simd_targets() {
  std::vector<std::string> names;
  for (const std::int64_t target : usable_targets()) names.emplace_back(hwy::TargetName(target));
  return names;
}

std::string simd_target() { return hwy::TargetName(usable_targets()[selected()]); }

void select_simd_target(std::string_view name) {
  const std::vector<std::int64_t>& targets = usable_targets();
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (name.empty() || name == hwy::TargetName(targets[i])) {
      use(targets[i]);
      selected() = i;
      return;
    }
  }
  throw InvariantError("this CPU or program has no kernels for " + std::string(name));
}

}  // namespace moesim
