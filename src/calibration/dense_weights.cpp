#include "calibration/dense_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "core/errors.h"
#include "core/rng.h"

namespace moesim {
namespace {

constexpr std::array kLayerParts{TaskKind::kAttention, TaskKind::kDenseFfn, TaskKind::kRouter,
                                 TaskKind::kShared};

std::size_t part_of(TaskKind kind) {
  const auto found = std::find(kLayerParts.begin(), kLayerParts.end(), kind);
  if (found == kLayerParts.end()) throw InvariantError("a dense part of a layer was expected");
  return static_cast<std::size_t>(found - kLayerParts.begin());
}

bool has_part(const MoeModel& model, std::size_t layer, TaskKind kind) {
  if (kind == TaskKind::kAttention) return true;
  return model.is_moe_layer(layer) == (kind != TaskKind::kDenseFfn);
}

std::size_t rows_of(const TaskCosts& costs, const Task& task, std::uint32_t position,
                    std::size_t row_bytes) {
  return static_cast<std::size_t>(costs.task(task, position, 1).bytes) / row_bytes;
}

// Where each matrix begins, in rows: the parts of layer after layer, the head, and the end.
std::vector<std::size_t> offsets_of(const MoeModel& model, const TaskCosts& costs,
                                    std::size_t row_bytes, std::uint32_t positions) {
  std::vector<std::size_t> offsets{0};
  offsets.reserve(model.num_hidden_layers * kLayerParts.size() + 2);
  for (std::size_t layer = 0; layer < model.num_hidden_layers; ++layer) {
    for (const TaskKind kind : kLayerParts) {
      const Task task{kind, 0, static_cast<std::uint16_t>(layer)};
      const std::size_t rows =
          has_part(model, layer, kind) ? rows_of(costs, task, positions, row_bytes) : 0;
      offsets.push_back(offsets.back() + rows);
    }
  }
  offsets.push_back(offsets.back() + rows_of(costs, {TaskKind::kHead}, 0, row_bytes));
  return offsets;
}

// Rows that repeat: a product takes as long whatever the weights are, and random ones of a whole
// model would take minutes to make.
constexpr std::size_t kPatternRows = 61;

// `memory` holds the rows.
WeightMatrix pattern_rows(WeightFormat format, std::size_t columns,
                          std::vector<std::byte>& memory) {
  memory.resize(kPatternRows * weight_row_bytes(format, columns));
  const WeightMatrix pattern{format, kPatternRows, columns, memory.data()};
  Rng rng = Rng::for_component(1, "dense weights");
  std::vector<float> row(columns);
  const double size = std::sqrt(3.0 / static_cast<double>(columns));  // variance 1 / columns
  for (std::size_t i = 0; i < kPatternRows; ++i) {
    for (float& weight : row) weight = static_cast<float>((rng.uniform() * 2 - 1) * size);
    encode_matrix_row(pattern, i, row, memory.data());
  }
  return pattern;
}

}  // namespace

std::uint64_t DenseWeights::bytes(const MoeModel& model, const TaskCosts& costs,
                                  WeightFormat format, std::uint32_t positions) {
  const std::size_t row_bytes = weight_row_bytes(format, model.hidden_size);
  return std::uint64_t{offsets_of(model, costs, row_bytes, positions).back()} * row_bytes;
}

DenseWeights::DenseWeights(const MoeModel& model, const TaskCosts& costs, WeightFormat format,
                           std::uint32_t positions)
    : costs_(costs),
      format_(format),
      hidden_(model.hidden_size),
      row_bytes_(weight_row_bytes(format, model.hidden_size)),
      memory_(std::max<std::size_t>(bytes(model, costs, format, positions), 1)),
      offsets_(offsets_of(model, costs, row_bytes_, positions)) {
  std::vector<std::byte> memory;
  const WeightMatrix pattern = pattern_rows(format, hidden_, memory);
  for (std::size_t place = 0; place + 1 < offsets_.size(); ++place) {
    const std::size_t rows = offsets_[place + 1] - offsets_[place];
    repeat_rows(pattern, stored(place, rows), memory_.data() + offsets_[place] * row_bytes_);
    most_rows_ = std::max(most_rows_, rows);
  }
}

WeightMatrix DenseWeights::matrix(const Task& task, std::uint32_t position) const {
  const std::size_t place = task.kind == TaskKind::kHead
                                ? offsets_.size() - 2
                                : task.hidden_layer * kLayerParts.size() + part_of(task.kind);
  const std::size_t rows = rows_of(costs_, task, position, row_bytes_);
  if (offsets_[place] + rows > offsets_[place + 1]) {
    throw InvariantError("a dense part is larger than its memory");
  }
  return stored(place, rows);
}

WeightMatrix DenseWeights::stored(std::size_t place, std::size_t rows) const {
  return {format_, rows, hidden_, memory_.data() + offsets_[place] * row_bytes_,
          offsets_[place + 1] - offsets_[place]};
}

}  // namespace moesim
