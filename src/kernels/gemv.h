// What a decode loop calls: products of a matrix and a vector, the expert FFN, and the plain
// reading of memory to compare them with; each shared by the threads of a team. Weights in fp16 or
// in blocks, activations and sums in fp32. Nothing allocates. docs/kernels.md bounds the errors.
//
// Weights may lie at any address. Results do not depend on the size of the team or on how fast its
// threads are, only on the vector instructions in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/thread_team.h"
#include "kernels/weight_matrix.h"

namespace moesim {

// y = w x. x: [columns], y: [rows]; they do not overlap. InvariantError where a size is wrong.
void gemv(const WeightMatrix& w, std::span<const float> x, std::span<float> y, ThreadTeam& team);

// An expert with a SwiGLU: y = down (silu(gate x) * (up x)). The formats may differ.
struct ExpertWeights {
  WeightMatrix gate;  // [intermediate, hidden]
  WeightMatrix up;    // [intermediate, hidden]
  WeightMatrix down;  // [hidden, intermediate]

  [[nodiscard]] std::size_t bytes() const { return gate.bytes() + up.bytes() + down.bytes(); }
};

// x, y: [hidden]; scratch: [2 * intermediate], what it holds does not matter; none overlap.
// InvariantError where shapes or sizes do not fit each other.
void expert_ffn(const ExpertWeights& expert, std::span<const float> x, std::span<float> scratch,
                std::span<float> y, ThreadTeam& team);

// Its two halves, for an expert whose down matrix arrives later. Between them scratch belongs to
// the expert.
void expert_gate_up(const ExpertWeights& expert, std::span<const float> x, std::span<float> scratch,
                    ThreadTeam& team);
void expert_down(const ExpertWeights& expert, std::span<const float> scratch, std::span<float> y,
                 ThreadTeam& team);

// The sum modulo 2^64 of the 64-bit words of `memory`; up to seven bytes at the end are left out.
std::uint64_t read_memory(std::span<const std::byte> memory, ThreadTeam& team);

}  // namespace moesim
