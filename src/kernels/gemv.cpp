#include "kernels/gemv.h"

#include <algorithm>
#include <atomic>

#include "core/errors.h"
#include "kernels/row_kernels.h"

namespace moesim {
namespace {

// What a thread takes at once. Less costs bandwidth, because each range starts its streams anew;
// more leaves threads idle at the end. Measured: docs/kernels.md.
constexpr std::size_t kBytesAtOnce = std::size_t{512} << 10;
constexpr std::size_t kSharesPerThread = 4;

// Rows to deal out at once: a multiple of four, because kernels take up to four rows together.
std::size_t rows_at_once(std::size_t rows, std::size_t row_bytes, std::size_t threads) {
  if (threads == 1) return std::max<std::size_t>(rows, 1);
  const std::size_t by_size = kBytesAtOnce / std::max<std::size_t>(row_bytes, 1);
  const std::size_t by_share = rows / (kSharesPerThread * threads);
  return std::max<std::size_t>(std::min(by_size, by_share) / 4 * 4, 4);
}

void require(bool holds, const char* what) {
  if (!holds) throw InvariantError(what);
}

void require_expert(const ExpertWeights& expert, std::size_t scratch) {
  const std::size_t intermediate = expert.gate.rows;
  const std::size_t hidden = expert.gate.columns;
  require(expert.up.rows == intermediate && expert.up.columns == hidden &&
              expert.down.rows == hidden && expert.down.columns == intermediate,
          "an expert's matrices do not fit each other");
  require(scratch == 2 * intermediate, "an expert's scratch has another size than twice its rows");
}

constexpr const char* kOtherSize = "an expert's input or output has another size than it";

// By the rows of a panel: a range is one stream in each.
std::size_t dealt(const WeightMatrix& w, const ThreadTeam& team) {
  return rows_at_once(w.rows, w.panel(0).row_bytes(), team.size());
}

}  // namespace

void gemv(const WeightMatrix& w, std::span<const float> x, std::span<float> y, ThreadTeam& team) {
  require(x.size() == w.columns && y.size() == w.rows, "a product's sizes do not fit its matrix");
  RowDealer rows(w.rows, dealt(w, team));
  team.run([&] {
    for (auto range = rows.next(); !range.empty(); range = rows.next()) {
      gemv_rows(w, range.first, range.last, x.data(), y.data());
    }
  });
}

void expert_gate_up(const ExpertWeights& expert, std::span<const float> x, std::span<float> scratch,
                    ThreadTeam& team) {
  require_expert(expert, scratch.size());
  require(x.size() == expert.gate.columns, kOtherSize);
  float* const gate = scratch.data();
  float* const up = gate + expert.gate.rows;
  RowDealer rows(expert.gate.rows, dealt(expert.gate, team));
  team.run([&] {
    for (auto range = rows.next(); !range.empty(); range = rows.next()) {
      gemv_rows(expert.gate, range.first, range.last, x.data(), gate);
      gemv_rows(expert.up, range.first, range.last, x.data(), up);
      swiglu(gate + range.first, up + range.first, range.last - range.first);
    }
  });
}

void expert_down(const ExpertWeights& expert, std::span<const float> scratch, std::span<float> y,
                 ThreadTeam& team) {
  require_expert(expert, scratch.size());
  require(y.size() == expert.down.rows, kOtherSize);
  gemv(expert.down, scratch.first(expert.gate.rows), y, team);
}

void expert_ffn(const ExpertWeights& expert, std::span<const float> x, std::span<float> scratch,
                std::span<float> y, ThreadTeam& team) {
  require_expert(expert, scratch.size());
  require(x.size() == expert.gate.columns && y.size() == expert.down.rows, kOtherSize);
  expert_gate_up(expert, x, scratch, team);
  expert_down(expert, scratch, y, team);
}

std::uint64_t read_memory(std::span<const std::byte> memory, ThreadTeam& team) {
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  const std::size_t words = memory.size() / kWord;
  RowDealer parts(words, rows_at_once(words, kWord, team.size()));
  std::atomic<std::uint64_t> total{0};
  team.run([&] {
    std::uint64_t sum = 0;
    for (auto part = parts.next(); !part.empty(); part = parts.next()) {
      sum += sum_words(memory.data() + part.first * kWord, part.last - part.first);
    }
    total.fetch_add(sum, std::memory_order_relaxed);
  });
  return total.load(std::memory_order_relaxed);
}

}  // namespace moesim
