#include "trace/importers/compact_recording.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/errors.h"

namespace moesim {

void CompactRecording::add(const LinePlace& place, std::size_t token, std::size_t layer,
                           std::size_t slot, std::size_t expert, float weight) {
  const std::size_t experts = experts_.value_or(kMaxExperts);
  if (expert >= experts) {
    throw user_error(place.text(),
                     fmt::format("expert: expected an id in [0, {}], got {}", experts - 1, expert));
  }
  // The ids of a cell are distinct, so that there are no more slots than experts.
  const std::size_t slots = k_.value_or(experts);
  if (slot >= slots) {
    throw user_error(place.text(),
                     fmt::format("slot: expected a slot in [0, {}], got {}", slots - 1, slot));
  }
  experts_seen_ = std::max(experts_seen_, expert + 1);
  slots_seen_ = std::max(slots_seen_, slot + 1);
  rows_.push_back({token, layer, slot, expert, weight, place});
}

void CompactRecording::add_cell(const LinePlace& place, std::size_t token, std::size_t layer,
                                std::span<const std::size_t> ids, std::span<const double> weights) {
  if (!k_ && !ids.empty()) k_ = ids.size();
  if (ids.empty() || ids.size() != *k_) {
    throw user_error(place.text(), fmt::format("expected {} experts, got {}",
                                               k_ ? std::to_string(*k_) : "some", ids.size()));
  }
  for (std::size_t slot = 0; slot < ids.size(); ++slot) {
    const double weight = weights.empty() ? 0.0 : weights[slot];
    add(place, token, layer, slot, ids[slot], static_cast<float>(weight));
  }
}

void CompactRecording::check_cell(std::span<const Row> cell, std::size_t k) const {
  for (std::size_t i = 0; i < cell.size(); ++i) {
    const Row& row = cell[i];
    if (row.slot < i) {
      throw user_error(row.place.text(), fmt::format("slot {} of this token and layer is given "
                                                     "twice, first on line {}",
                                                     row.slot, cell[i - 1].place.line));
    }
    if (row.slot > i) {
      throw user_error(
          row.place.text(),
          fmt::format("expected slot {} of this token and layer, got slot {}", i, row.slot));
    }
    for (std::size_t j = 0; j < i; ++j) {
      if (cell[j].expert != row.expert) continue;
      throw user_error(row.place.text(),
                       fmt::format("expected distinct experts in a token and layer, got expert {} "
                                   "in slots {} and {}",
                                   row.expert, j, i));
    }
  }
  if (cell.size() < k) {
    throw user_error(
        cell.back().place.text(),
        fmt::format("expected {} slots for this token and layer, got {}", k, cell.size()));
  }
}

void CompactRecording::build(std::size_t tokens, std::size_t layers, bool with_weights,
                             TraceData& data) {
  std::stable_sort(rows_.begin(), rows_.end(), [](const Row& a, const Row& b) {
    return std::tie(a.token, a.layer, a.slot) < std::tie(b.token, b.layer, b.slot);
  });
  const std::size_t k = k_.value_or(slots_seen_);
  for (auto begin = rows_.begin(); begin != rows_.end();) {
    const auto end = std::find_if(begin, rows_.end(), [&](const Row& row) {
      return row.token != begin->token || row.layer != begin->layer;
    });
    check_cell(std::span(begin, end), k);
    begin = end;
  }
  data.shape = {tokens, layers, experts_.value_or(experts_seen_)};
  data.k = k;
  data.ids.assign(tokens * layers * k, TraceData::kAbsentId);
  if (with_weights) data.weights.assign(data.ids.size(), 0.0F);
  for (const Row& row : rows_) {
    if (row.token >= tokens || row.layer >= layers) {
      throw InvariantError("a recorded expert lies outside the trace");
    }
    const std::size_t at = (row.token * layers + row.layer) * k + row.slot;
    data.ids[at] = static_cast<std::uint16_t>(row.expert);
    if (with_weights) data.weights[at] = row.weight;
  }
}

bool is_present(const TraceData& data, std::size_t token, std::size_t layer) {
  return data.ids[(token * data.shape.layers + layer) * data.k] != TraceData::kAbsentId;
}

std::size_t count_absent(
    const TraceData& data,
    const std::function<std::optional<UserError>(std::size_t, std::size_t)>& missing) {
  std::size_t absent = 0;
  for (std::size_t token = 0; token < data.shape.tokens; ++token) {
    for (std::size_t layer = 0; layer < data.shape.layers; ++layer) {
      if (is_present(data, token, layer)) continue;
      if (const auto error = missing(token, layer)) throw UserError(*error);
      ++absent;
    }
  }
  return absent;
}

bool is_renormalised(const TraceData& data) {
  for (std::size_t cell = 0; cell < data.ids.size(); cell += data.k) {
    if (data.ids[cell] == TraceData::kAbsentId) continue;
    double sum = 0;
    for (std::size_t slot = 0; slot < data.k; ++slot) sum += data.weights[cell + slot];
    if (std::abs(sum - 1.0) > 0.01) return false;
  }
  return true;
}

void note_unsorted_weights(const TraceData& data, std::vector<std::string>& notes) {
  std::size_t unsorted = 0;
  for (std::size_t cell = 0; cell < data.ids.size(); cell += data.k) {
    const auto begin = data.weights.begin() + static_cast<std::ptrdiff_t>(cell);
    const auto end = begin + static_cast<std::ptrdiff_t>(data.k);
    unsorted += std::is_sorted(begin, end, std::greater<>()) ? 0 : 1;
  }
  if (unsorted == 0) return;
  notes.push_back(fmt::format(
      "{} cells have weights that do not fall with the slot; the rank is the recorded slot",
      unsorted));
}

void note_guessed_experts(std::size_t experts, std::vector<std::string>& notes) {
  notes.push_back(fmt::format(
      "the number of experts is not recorded: {} is the largest id + 1 (set it with --experts)",
      experts));
}

}  // namespace moesim
