#include "bench/eigen_products.h"

#include <Eigen/Core>

namespace moesim::bench {
namespace {

template <class Scalar>
auto matrix(const void* w, std::size_t rows, std::size_t columns) {
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  return Eigen::Map<const Matrix>(static_cast<const Scalar*>(w), static_cast<Eigen::Index>(rows),
                                  static_cast<Eigen::Index>(columns));
}

auto vector(const float* x, std::size_t size) {
  return Eigen::Map<const Eigen::VectorXf>(x, static_cast<Eigen::Index>(size));
}

auto result(float* y, std::size_t size) {
  return Eigen::Map<Eigen::VectorXf>(y, static_cast<Eigen::Index>(size));
}

}  // namespace

void eigen_float_product(const float* w, std::size_t rows, std::size_t columns, const float* x,
                         float* y) {
  result(y, rows).noalias() = matrix<float>(w, rows, columns) * vector(x, columns);
}

void eigen_half_product(const void* w, std::size_t rows, std::size_t columns, const float* x,
                        float* y) {
  const auto weights = matrix<Eigen::half>(w, rows, columns);
  auto out = result(y, rows);
  Eigen::RowVectorXf row(weights.cols());
  for (Eigen::Index r = 0; r < weights.rows(); ++r) {
    row = weights.row(r).cast<float>();
    out[r] = row.dot(vector(x, columns));
  }
}

}  // namespace moesim::bench
