#include "model/moe_model.h"

#include <algorithm>

namespace moesim {
namespace {

bool holds(const std::vector<std::size_t>& sorted, std::size_t value) {
  return std::binary_search(sorted.begin(), sorted.end(), value);
}

// What the attention of one layer holds: heads, and how many matrices make keys and values.
struct Heads {
  std::uint64_t query = 0;      // values of all query heads together
  std::uint64_t key_value = 0;  // values of all key heads together, as many of all value heads
  std::uint64_t head_dim = 0;
  std::uint64_t key_value_matrices = 2;
};

Heads heads_of(const AttentionShape& a, bool windowed) {
  Heads heads;
  const bool global = a.sliding_window > 0 && !windowed;
  heads.head_dim = global && a.global_head_dim > 0 ? a.global_head_dim : a.head_dim;
  const std::size_t key_value_heads = global && a.num_global_key_value_heads > 0
                                          ? a.num_global_key_value_heads
                                          : a.num_key_value_heads;
  heads.query = a.num_attention_heads * heads.head_dim;
  heads.key_value = key_value_heads * heads.head_dim;
  if (global && a.attention_k_eq_v) heads.key_value_matrices = 1;
  return heads;
}

std::uint64_t gqa_params(const AttentionShape& a, std::uint64_t hidden, const Heads& heads) {
  const std::uint64_t query_outputs = heads.query * (a.output_gate ? 2 : 1);
  const std::uint64_t inputs = query_outputs + heads.key_value_matrices * heads.key_value;
  std::uint64_t params = hidden * inputs + heads.query * hidden;
  if (a.qkv_bias) params += inputs;
  if (a.output_bias) params += hidden;
  if (a.qk_norm == "head") params += 2 * heads.head_dim;
  if (a.qk_norm == "full") params += heads.query + heads.key_value;
  if (a.sinks) params += a.num_attention_heads;
  return params;
}

std::uint64_t mla_params(const AttentionShape& a, std::uint64_t hidden) {
  const std::uint64_t queries = a.num_attention_heads * (a.qk_nope_head_dim + a.qk_rope_head_dim);
  const std::uint64_t query_params =
      a.q_lora_rank > 0 ? hidden * a.q_lora_rank + a.q_lora_rank + a.q_lora_rank * queries
                        : hidden * queries;
  const std::uint64_t expanded = a.num_attention_heads * (a.qk_nope_head_dim + a.v_head_dim);
  const std::uint64_t key_value_params =
      hidden * (a.kv_lora_rank + a.qk_rope_head_dim) + a.kv_lora_rank + a.kv_lora_rank * expanded;
  return query_params + key_value_params + a.num_attention_heads * a.v_head_dim * hidden;
}

// One set of query and output matrices of moa: a token runs num_attention_heads in all.
std::uint64_t moa_set_params(const AttentionShape& a, std::uint64_t hidden) {
  return 2 * hidden * (a.num_attention_heads / a.num_experts_per_tok) * a.head_dim;
}

std::uint64_t moa_params(const AttentionShape& a, std::uint64_t hidden) {
  const std::uint64_t shared_key_value = 2 * hidden * a.num_key_value_heads * a.head_dim;
  const std::uint64_t router = hidden * a.num_experts;
  return a.num_experts * moa_set_params(a, hidden) + shared_key_value + router;
}

}  // namespace

std::uint64_t MoeModel::expert_params() const {
  const std::uint64_t bias =
      expert_bias ? (expert_matrices - 1) * moe_intermediate_size + hidden_size : 0;
  return expert_matrices * hidden_size * moe_intermediate_size + bias;
}

std::uint64_t MoeModel::router_params() const {
  const std::uint64_t vectors = (router_bias ? 1U : 0U) + (gate.selection_bias ? 1U : 0U);
  return (hidden_size + vectors) * num_experts;
}

std::uint64_t MoeModel::shared_expert_params() const {
  return expert_matrices * hidden_size * shared_expert_intermediate_size +
         (shared_expert_gate ? hidden_size : 0);
}

std::uint64_t MoeModel::dense_ffn_params() const {
  return expert_matrices * hidden_size * intermediate_size;
}

std::uint64_t MoeModel::mixer_params(std::size_t hidden_layer) const {
  const std::uint64_t norms = 2 * hidden_size;
  const std::uint64_t share = other_params / num_hidden_layers +
                              (hidden_layer < other_params % num_hidden_layers ? 1U : 0U);
  if (!has_attention(hidden_layer)) return norms + share;
  if (attention.type == "mla") return mla_params(attention, hidden_size) + norms + share;
  if (attention.type == "moa") return moa_params(attention, hidden_size) + norms + share;
  const Heads heads = heads_of(attention, attention_window(hidden_layer) > 0);
  return gqa_params(attention, hidden_size, heads) + norms + share;
}

std::uint64_t MoeModel::active_mixer_params(std::size_t hidden_layer) const {
  const bool moa = attention.type == "moa" && has_attention(hidden_layer);
  const std::uint64_t idle_sets = moa ? attention.num_experts - attention.num_experts_per_tok : 0;
  return mixer_params(hidden_layer) -
         (moa ? idle_sets * moa_set_params(attention, hidden_size) : 0);
}

std::uint64_t MoeModel::embedding_params() const { return vocab_size * hidden_size; }

std::uint64_t MoeModel::head_params() const { return vocab_size * hidden_size; }

std::uint64_t MoeModel::total_params() const {
  const std::uint64_t final_norm = hidden_size;
  std::uint64_t total = embedding_params() + (tie_word_embeddings ? 0 : head_params()) + final_norm;
  for (std::size_t layer = 0; layer < num_hidden_layers; ++layer) total += mixer_params(layer);
  total += (num_hidden_layers - moe_layers.size()) * dense_ffn_params();
  total += moe_layers.size() * (router_params() + shared_expert_params());
  return total + routed_params();
}

std::uint64_t MoeModel::routed_params() const {
  return moe_layers.size() * num_experts * expert_params();
}

std::uint64_t MoeModel::active_params() const {
  std::uint64_t idle = moe_layers.size() * (num_experts - num_experts_per_tok) * expert_params();
  for (std::size_t layer = 0; layer < num_hidden_layers; ++layer) {
    idle += mixer_params(layer) - active_mixer_params(layer);
  }
  return total_params() - idle;
}

std::uint64_t MoeModel::active_params_without_input_table() const {
  return active_params() - (tie_word_embeddings ? 0 : embedding_params());
}

std::uint64_t MoeModel::active_params_without_tables() const {
  return active_params() - embedding_params() - (tie_word_embeddings ? 0 : head_params());
}

std::uint64_t MoeModel::kv_values_per_token(std::size_t hidden_layer) const {
  if (!has_attention(hidden_layer)) return 0;
  if (attention.type == "mla") return attention.kv_lora_rank + attention.qk_rope_head_dim;
  // Keys and values are both kept where one matrix makes them: their norms and positions differ.
  return 2 * heads_of(attention, attention_window(hidden_layer) > 0).key_value;
}

std::uint64_t MoeModel::kv_values_per_token() const {
  std::uint64_t values = 0;
  for (std::size_t layer = 0; layer < num_hidden_layers; ++layer) {
    values += kv_values_per_token(layer);
  }
  return values;
}

std::size_t MoeModel::attention_window(std::size_t hidden_layer) const {
  const bool windowed =
      attention.sliding_layers.empty() || holds(attention.sliding_layers, hidden_layer);
  return windowed ? attention.sliding_window : 0;
}

bool MoeModel::is_moe_layer(std::size_t hidden_layer) const {
  return holds(moe_layers, hidden_layer);
}

bool MoeModel::has_attention(std::size_t hidden_layer) const {
  return attention.attention_layers.empty() || holds(attention.attention_layers, hidden_layer);
}

}  // namespace moesim
