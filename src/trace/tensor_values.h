// Floating-point tensors read as float, and the check that every value is finite.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "trace/safetensors_file.h"

namespace moesim {

// Converts the out.size() elements from `first` on. Vectorised; does not allocate.
// REQUIRES: the type is F16, BF16 or F32; the elements exist and are finite.
void read_floats(const SafetensorsTensor& tensor, std::size_t first, std::span<float> out);

// Index of the first NaN or infinity; nullopt where there is none or the type is integral.
// Runs at memory speed.
std::optional<std::size_t> first_non_finite(const SafetensorsTensor& tensor);

// "NaN", "infinity" or "-infinity". REQUIRES: element `i` is not finite.
std::string non_finite_text(const SafetensorsTensor& tensor, std::size_t i);

}  // namespace moesim
