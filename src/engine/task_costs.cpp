#include "engine/task_costs.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/errors.h"

namespace moesim {

std::uint64_t bytes_of(std::uint64_t params, double bits) {
  if (params == 0) return 0;
  const auto bytes = std::llround(static_cast<double>(params) * bits / 8.0);
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(bytes));
}

TaskCosts::TaskCosts(const MoeModel& model, const Device& device, const WeightBits& bits,
                     const ExecutionOptions& execution, std::span<const ExpertFormat> formats)
    : router_bytes_(bytes_of(model.router_params(), bits.dense)),
      shared_bytes_(bytes_of(model.shared_expert_params(), bits.dense)),
      dense_ffn_bytes_(bytes_of(model.dense_ffn_params(), bits.dense)),
      head_bytes_(bytes_of(model.head_params(), bits.dense)),
      dense_bytes_(bytes_of(model.total_params() - model.routed_params(), bits.dense)),
      expert_matrices_(model.expert_matrices),
      overlap_(execution.overlap),
      layout_(execution.layout),
      mapped_reads_(execution.read_path == ReadPath::kMmap ? std::min(execution.threads, kMostReads)
                                                           : 0),
      layer_overhead_us_(device.cpu.layer_overhead_us),
      page_bytes_(device.memory.page_kib * 1024.0),
      nominal_admit_us_(device.memory.admit_us_per_page) {
  agents_.reserve(device.agents.size() + 1);
  agents_.emplace_back();
  for (const auto& [name, agent] : device.agents) {
    agents_.push_back({from_us(agent.launch_us), from_us(agent.sync_us)});
  }
  for (std::size_t layer = 0; layer < model.num_hidden_layers; ++layer) {
    layers_.push_back({bytes_of(model.active_mixer_params(layer), bits.dense),
                       bytes_of(model.kv_values_per_token(layer), bits.kv),
                       model.attention_window(layer), 0});
  }
  sized_rates_.reserve(formats.size());
  for (const ExpertFormat& format : formats) {
    sized_rates_.push_back({format.expert_bytes, rates_for(format.bits, "", device, execution,
                                                           execution.expert_agent, false)});
  }
  if (formats.empty()) {
    const KernelUse use =
        kernel_use(bits.expert, bits.expert_format, device, execution, execution.expert_agent);
    expert_rates_ = rates_for(bits.expert, bits.expert_format, device, execution,
                              execution.expert_agent, use.model != nullptr);
    set_expert_rates(model, use, bytes_of(model.expert_params(), bits.expert));
  }
  expert_agent_ = formats.empty() ? expert_rates_.agent : sized_rates_.front().rates.agent;
  const KernelUse use =
      kernel_use(bits.dense, bits.dense_format, device, execution, execution.dense_agent);
  dense_rates_ = rates_for(bits.dense, bits.dense_format, device, execution, execution.dense_agent,
                           use.model != nullptr);
  set_dense_rates(model, use);
  set_clock(execution.clock);
}

void TaskCosts::set_clock(Rates& rates, double relative) {
  if (rates.kernel_gbps == 0) return;
  const double clock = rates.agent == 0 ? relative : 1.0;
  rates.kernel = std::max<std::uint64_t>(to_integer(to_rate(rates.kernel_gbps * clock)), 1);
  if (rates.launch_us > 0) rates.launch = from_us(rates.launch_us / clock);
}

void TaskCosts::set_clock(double relative) {
  layer_overhead_ = from_us(layer_overhead_us_ / relative);
  admit_us_per_page_ = nominal_admit_us_ / relative;
  for (Rates* rates : {&dense_rates_, &router_rates_, &shared_rates_, &dense_ffn_rates_,
                       &head_rates_, &expert_rates_, &shaped_rates_[0], &shaped_rates_[1]}) {
    set_clock(*rates, relative);
  }
  for (Rates& rates : mixer_rates_) set_clock(rates, relative);
  for (SizedRates& sized : sized_rates_) set_clock(sized.rates, relative);
  known_experts_ = {};
  router_ = cost(router_bytes_, router_rates_, 1);
  shared_ = cost(shared_bytes_, shared_rates_, 1);
  dense_ffn_ = cost(dense_ffn_bytes_, dense_ffn_rates_, 1);
  head_ = cost(head_bytes_, head_rates_, 1);
}

void TaskCosts::note_format_without_rate(const std::string& name) {
  if (std::find(no_rate_.begin(), no_rate_.end(), name) == no_rate_.end()) no_rate_.push_back(name);
}

TaskCosts::Rates TaskCosts::agent_rates(const std::string& format, const Device& device,
                                        const std::string& name) {
  const auto found = device.agents.find(name);
  if (found == device.agents.end()) throw InvariantError("an agent that the device does not have");
  const AgentSpec& agent = found->second;
  Rates rates;
  rates.dram = to_rate(std::min(device.dram.total_gbps, agent.dram_gbps));
  rates.agent = static_cast<std::uint8_t>(std::distance(device.agents.begin(), found) + 1);
  rates.launch = agents_[rates.agent].launch;
  const auto known = agent.kernel_gbps.find(format);
  if (known != agent.kernel_gbps.end()) {
    rates.kernel_gbps = known->second;
  } else {
    note_format_without_rate(format + " on the " + name);
  }
  return rates;
}

TaskCosts::Rates TaskCosts::rates_for(double bits, std::string format, const Device& device,
                                      const ExecutionOptions& execution, const std::string& agent,
                                      bool modelled) {
  if (format.empty()) format = weight_format(bits);
  if (agent != kCpuAgent) return agent_rates(format, device, agent);
  const auto threads = static_cast<double>(execution.threads);
  double dram = std::min(device.dram.total_gbps, device.dram.cpu_gbps);
  if (device.dram.cpu_core_gbps > 0) dram = std::min(dram, threads * device.dram.cpu_core_gbps);
  Rates rates;
  rates.dram = to_rate(dram);
  const auto known = device.cpu.kernel_gbps.find(format);
  if (known != device.cpu.kernel_gbps.end()) {
    rates.kernel_gbps = known->second * device.cpu.thread_share(execution.threads);
  } else if (!modelled) {
    note_format_without_rate(format);
  }
  return rates;
}

// Weights stream from DRAM once for all tokens of a pass; the kernel multiplies them once a token.
ComputeCost TaskCosts::cost(std::uint64_t bytes, const Rates& rates, std::uint32_t tokens) {
  ComputeCost result{Duration::zero(), Duration::zero(), rates.dram, bytes, rates.agent};
  if (bytes == 0) return result;
  result.fixed = rates.launch;
  if (rates.kernel > 0 && rates.kernel / tokens < to_integer(rates.dram)) {
    result.rate = static_cast<BytesPerSecond>(std::max<std::uint64_t>(rates.kernel / tokens, 1));
  }
  result.nominal = transfer_time(bytes, result.rate);
  return result;
}

std::uint64_t TaskCosts::kv_read_bytes(const LayerBytes& layer, std::uint32_t position,
                                       std::uint32_t tokens) const {
  std::uint64_t context = std::uint64_t{position} + tokens;
  if (layer.window > 0) context = std::min(context, layer.window + tokens - 1);
  return context * layer.kv_per_token;
}

ComputeCost TaskCosts::task(const Task& task, std::uint32_t position, std::uint32_t tokens) const {
  switch (task.kind) {
    case TaskKind::kAttention: {
      const LayerBytes& layer = layers_[task.hidden_layer];
      const std::uint64_t bytes = layer.mixer + kv_read_bytes(layer, position, tokens);
      ComputeCost result = cost(bytes, mixer_rates_[layer.rates], tokens);
      result.fixed += layer_overhead_;
      return result;
    }
    case TaskKind::kDenseFfn:
      return tokens == 1 ? dense_ffn_ : cost(dense_ffn_bytes_, dense_ffn_rates_, tokens);
    case TaskKind::kRouter:
      return tokens == 1 ? router_ : cost(router_bytes_, router_rates_, tokens);
    case TaskKind::kShared:
      return tokens == 1 ? shared_ : cost(shared_bytes_, shared_rates_, tokens);
    // Only the last token of a prefill needs a distribution over the vocabulary.
    case TaskKind::kHead:
      return head_;
    default:
      throw InvariantError("a task without an expert was expected");
  }
}

std::uint64_t TaskCosts::down_bytes(std::uint64_t expert_bytes) const {
  return expert_bytes / expert_matrices_;
}

const TaskCosts::Rates& TaskCosts::rates_of_expert(TaskKind kind,
                                                   std::uint64_t expert_bytes) const {
  for (const SizedRates& sized : sized_rates_) {
    if (sized.expert_bytes == expert_bytes) return sized.rates;
  }
  if (!sized_rates_.empty()) throw InvariantError("an expert of a size without a weight format");
  if (expert_bytes != shaped_expert_bytes_) return expert_rates_;
  return shaped_rates_[kind == TaskKind::kExpertDown ? 1 : 0];
}

ComputeCost TaskCosts::expert(TaskKind kind, std::uint64_t expert_bytes,
                              std::uint32_t tokens) const {
  const bool down = kind == TaskKind::kExpertDown;
  KnownExpert& known = known_experts_[down ? 1 : 0];
  if (tokens == 1 && known.expert_bytes == expert_bytes) return known.cost;
  std::uint64_t bytes = expert_bytes;
  if (down) bytes = down_bytes(expert_bytes);
  if (!down && overlap_ == Overlap::kProjection) bytes = expert_bytes - down_bytes(expert_bytes);
  const ComputeCost result = cost(bytes, rates_of_expert(kind, expert_bytes), tokens);
  if (tokens == 1) known = {expert_bytes, result};
  return result;
}

ComputeCost TaskCosts::predictor(std::uint64_t bytes) const {
  return cost(bytes, router_rates_, 1);
}

Duration TaskCosts::admission(std::uint64_t expert_bytes) const {
  return from_us(std::ceil(static_cast<double>(expert_bytes) / page_bytes_) * admit_us_per_page_);
}

ReadSizes TaskCosts::reads(TaskKind kind, std::uint64_t expert_bytes) const {
  const std::uint64_t down = down_bytes(expert_bytes);
  if (kind == TaskKind::kFetchDown) return {{down, 0, 0}, 1};
  if (overlap_ != Overlap::kProjection) return all_reads(expert_bytes);
  const std::uint64_t rest = expert_bytes - down;
  const bool one_read = layout_ != ExpertLayout::kSlices || expert_matrices_ == 2;
  return one_read ? ReadSizes{{rest, 0, 0}, 1} : ReadSizes{{rest - rest / 2, rest / 2, 0}, 2};
}

// The threads of a product share its rows, so each faults in as much.
ReadSizes TaskCosts::all_reads(std::uint64_t expert_bytes) const {
  if (mapped_reads_ > 0) {
    ReadSizes reads;
    for (; reads.count < mapped_reads_; ++reads.count) {
      const std::uint64_t end = expert_bytes * (reads.count + 1) / mapped_reads_;
      reads.bytes[reads.count] = end - expert_bytes * reads.count / mapped_reads_;
    }
    return reads;
  }
  if (layout_ == ExpertLayout::kContiguous) return {{expert_bytes, 0, 0}, 1};
  const std::uint64_t down = down_bytes(expert_bytes);
  if (expert_matrices_ == 2 || layout_ == ExpertLayout::kFused) {
    return {{expert_bytes - down, down, 0}, 2};
  }
  const std::uint64_t rest = expert_bytes - down;
  return {{rest - rest / 2, rest / 2, down}, 3};
}

std::uint64_t TaskCosts::kv_bytes(std::uint64_t tokens) const {
  std::uint64_t total = 0;
  for (const LayerBytes& layer : layers_) {
    const std::uint64_t held = layer.window > 0 ? std::min(tokens, layer.window) : tokens;
    total += held * layer.kv_per_token;
  }
  return total;
}

}  // namespace moesim
