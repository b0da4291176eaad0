// Which vector instructions the kernels use: the best that both the compiler and this CPU have,
// unless another set is selected.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace moesim {

// Whether the kernels are part of this program; if not, why, and what would help. Every function of
// kernels/row_kernels.h throws InvariantError where they are not, so ask first.
struct KernelSupport {
  bool available = false;
  std::string reason;  // Empty where available.
};
KernelSupport kernel_support();

// The sets that this CPU can run, best first, by Highway's names: AVX3 (AVX-512 F, BW, DQ, VL),
// AVX2 (with FMA and F16C), SSE4, NEON, SCALAR (no vectors). Empty where there are no kernels.
std::vector<std::string> simd_targets();

// The set in use.
std::string simd_target();

// Uses the set `name` from now on, in all threads; "" stands for the best. Not while kernels run.
// InvariantError where simd_targets() does not have it.
void select_simd_target(std::string_view name);

}  // namespace moesim
