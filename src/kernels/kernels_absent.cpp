// Stands in for the kernels where the program is built without Google Highway.
#include "core/errors.h"
#include "kernels/row_kernels.h"
#include "kernels/simd_target.h"

namespace moesim {
namespace {

constexpr const char* kReason =
    "this program was built without its kernels; install Google Highway (Debian: libhwy-dev) and "
    "build again";

[[noreturn]] void refuse() { throw InvariantError(kReason); }

}  // namespace

KernelSupport kernel_support() { return {false, kReason}; }
std::vector<std::string> simd_targets() { return {}; }
std::string simd_target() { refuse(); }
void select_simd_target(std::string_view) { refuse(); }

void half_rows(const WeightPanel&, std::size_t, std::size_t, const float*, float*) { refuse(); }
void q8_rows(const WeightPanel&, std::size_t, std::size_t, const float*, float*) { refuse(); }
void q4_rows(const WeightPanel&, std::size_t, std::size_t, const float*, float*) { refuse(); }
void swiglu(float*, const float*, std::size_t) { refuse(); }
std::uint64_t sum_words(const std::byte*, std::size_t) { refuse(); }

}  // namespace moesim
