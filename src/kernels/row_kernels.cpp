#include "kernels/row_kernels.h"

#include "core/errors.h"

namespace moesim {

void gemv_rows(const WeightMatrix& w, std::size_t first, std::size_t last, const float* x,
               float* y) {
  switch (w.format) {
    case WeightFormat::kFp16:
      return half_rows(w, first, last, x, y);
    case WeightFormat::kQ8:
      return q8_rows(w, first, last, x, y);
    case WeightFormat::kQ4:
      return q4_rows(w, first, last, x, y);
  }
  throw InvariantError("unknown weight format");
}

}  // namespace moesim
