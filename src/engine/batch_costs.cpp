// The part of TaskCosts about passes over several sequences.
#include <algorithm>
#include <cmath>

#include "core/errors.h"
#include "engine/task_costs.h"

namespace moesim {

ComputeCost TaskCosts::batch_task(const Task& task, std::span<const PassToken> tokens) const {
  const bool one = tokens.size() == 1 && !tokens[0].moved;
  if (one) return this->task(task, tokens[0].position, 1);
  if (task.kind == TaskKind::kAttention) return batch_attention(layers_[task.hidden_layer], tokens);
  const auto count = static_cast<std::uint32_t>(tokens.size());
  if (task.kind == TaskKind::kHead) return cost(head_bytes_, head_rates_, count);
  return this->task(task, tokens[0].position, count);
}

// The kernel multiplies the weights once a token and each key-value entry once; beside that DRAM
// must deliver all of it once. Copies take DRAM alone and come before.
ComputeCost TaskCosts::batch_attention(const LayerBytes& layer,
                                       std::span<const PassToken> tokens) const {
  const Rates& rates = mixer_rates_[layer.rates];
  std::uint64_t kv = 0;
  for (const PassToken& token : tokens) kv += kv_read_bytes(layer, token.position, 1);
  const std::uint64_t copied = kv_copy_bytes(layer, tokens);
  const std::uint64_t read = layer.mixer + kv;
  const auto dram = static_cast<double>(to_integer(rates.dram));
  double seconds = static_cast<double>(read) / dram;
  if (rates.kernel > 0) {
    const std::uint64_t multiplied = layer.mixer * tokens.size() + kv;
    seconds =
        std::max(seconds, static_cast<double>(multiplied) / static_cast<double>(rates.kernel));
  }
  seconds += static_cast<double>(copied) / dram;
  const std::uint64_t bytes = read + copied;
  ComputeCost result{layer_overhead_, Duration::zero(), rates.dram, bytes, rates.agent};
  if (bytes == 0) return result;
  result.fixed += rates.launch;
  // The slack keeps rounding from lowering a rate that DRAM alone sets.
  const double rate = std::floor(static_cast<double>(bytes) / seconds * (1 + 1e-12));
  result.rate = static_cast<BytesPerSecond>(
      std::clamp<std::uint64_t>(static_cast<std::uint64_t>(rate), 1, to_integer(rates.dram)));
  result.nominal = transfer_time(bytes, result.rate);
  return result;
}

std::uint64_t TaskCosts::kv_copy_bytes(const LayerBytes& layer, std::span<const PassToken> tokens) {
  std::uint64_t bytes = 0;
  for (const PassToken& token : tokens) {
    if (!token.moved) continue;
    const std::uint64_t held =
        layer.window > 0 ? std::min<std::uint64_t>(token.position, layer.window) : token.position;
    bytes += 2 * held * layer.kv_per_token;
  }
  return bytes;
}

std::uint64_t TaskCosts::kv_copy_bytes(std::span<const PassToken> tokens) const {
  std::uint64_t bytes = 0;
  for (const LayerBytes& layer : layers_) bytes += kv_copy_bytes(layer, tokens);
  return bytes;
}

}  // namespace moesim
