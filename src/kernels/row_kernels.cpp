#include "kernels/row_kernels.h"

#include "core/errors.h"

namespace moesim {
namespace {

void panel_rows(const WeightPanel& w, std::size_t first, std::size_t last, const float* x,
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

}  // namespace

void gemv_rows(const WeightMatrix& w, std::size_t first, std::size_t last, const float* x,
               float* y) {
  for (std::size_t i = 0; i < w.panels(); ++i) {
    const WeightPanel panel = w.panel(i);
    panel_rows(panel, first, last, x + panel.first_column, y);
  }
}

}  // namespace moesim
