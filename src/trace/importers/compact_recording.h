// Recorded experts, collected in any order, checked cell by cell and laid out as a compact trace.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trace/importers/line_reader.h"
#include "trace/trace_writer.h"

namespace moesim {

// One cell is what one token ran at one layer: k experts, best first.
class CompactRecording {
 public:
  // Ids at or above this cannot be stored; the largest 16-bit id marks an absent cell.
  static constexpr std::size_t kMaxExperts = TraceData::kAbsentId;

  // `experts` per layer and `k`, where they are known before the rows are read.
  CompactRecording(std::optional<std::size_t> experts, std::optional<std::size_t> k)
      : experts_(experts), k_(k) {}

  // Adds one expert of a cell. Throws UserError for an id or slot out of range.
  void add(const LinePlace& place, std::size_t token, std::size_t layer, std::size_t slot,
           std::size_t expert, float weight);
  // Adds a whole cell, slots in the order given; `weights` is empty or as long as `ids`. Throws
  // UserError as add() does, and when the number of ids is not that of the first cell.
  void add_cell(const LinePlace& place, std::size_t token, std::size_t layer,
                std::span<const std::size_t> ids, std::span<const double> weights);

  // The largest id so far plus one.
  [[nodiscard]] std::size_t experts_seen() const { return experts_seen_; }

  // Sorts by token, layer and slot, and fills shape, k, ids and (if `with_weights`) weights of
  // `data`. Cells without rows are absent. Throws UserError, with the line, for a slot given twice,
  // a missing slot, and an id twice in a cell. Tokens and layers must be in range; not empty.
  void build(std::size_t tokens, std::size_t layers, bool with_weights, TraceData& data);

 private:
  struct Row {
    std::size_t token;
    std::size_t layer;
    std::size_t slot;
    std::size_t expert;
    float weight;
    LinePlace place;
  };

  void check_cell(std::span<const Row> cell, std::size_t k) const;

  std::optional<std::size_t> experts_;
  std::optional<std::size_t> k_;
  std::size_t experts_seen_ = 0;
  std::size_t slots_seen_ = 0;
  std::vector<Row> rows_;
};

// True when the token visits the layer. REQUIRES: a compact form.
bool is_present(const TraceData& data, std::size_t token, std::size_t layer);

// Counts the absent cells. Throws the error that `missing(token, layer)` returns, if any, for the
// first cell that must not be absent.
std::size_t count_absent(
    const TraceData& data,
    const std::function<std::optional<UserError>(std::size_t token, std::size_t layer)>& missing);

// True when the weights of every present cell sum to 1 within 0.01: recordings print four digits.
bool is_renormalised(const TraceData& data);

// Adds a note when some cells have a weight above that of the slot before: their rank is the
// recorded slot all the same.
void note_unsorted_weights(const TraceData& data, std::vector<std::string>& notes);

// Adds a note that `experts` was taken from the largest id.
void note_guessed_experts(std::size_t experts, std::vector<std::string>& notes);

}  // namespace moesim
