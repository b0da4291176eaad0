// The part of TaskCosts about products whose shapes a kernel model knows.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/task_costs.h"

namespace moesim {
namespace {

// gate and up, which are one job of the threads, or up alone
std::vector<KernelShape> upper_products(std::size_t matrices, std::size_t intermediate,
                                        std::size_t hidden) {
  return std::vector<KernelShape>(matrices - 1, {intermediate, hidden});
}

// A feed-forward block: its upper products, and down behind a barrier.
std::vector<KernelShape> block_products(std::size_t matrices, std::size_t intermediate,
                                        std::size_t hidden) {
  std::vector<KernelShape> shapes = upper_products(matrices, intermediate, hidden);
  shapes.push_back({hidden, intermediate});
  return shapes;
}

}  // namespace

TaskCosts::KernelUse TaskCosts::kernel_use(double bits, const std::string& format,
                                           const Device& device, const ExecutionOptions& execution,
                                           const std::string& agent) {
  const std::string known_as = format.empty() ? weight_format(bits) : format;
  const KernelModel& model = device.cpu.kernel_model;
  if (agent != kCpuAgent || !model.knows(known_as, execution.threads)) return {};
  return {&model, known_as, execution.threads};
}

// The rate is that of the bytes which the kernels stream; a file of other bits per weight that uses
// them has its own bytes at this rate.
TaskCosts::Rates TaskCosts::product_rates(const Rates& plain, const KernelUse& use,
                                          const Products& products) {
  if (use.model == nullptr || products.shapes.empty()) return plain;
  const double launch = use.model->launch_seconds(use.format, use.threads);
  double bytes = 0;
  double streaming = 0;
  for (const KernelShape& shape : products.shapes) {
    bytes += static_cast<double>(kernel_row_bytes(use.format, shape.columns)) *
             static_cast<double>(shape.rows);
    streaming += use.model->seconds(use.format, shape.rows, shape.columns, use.threads) - launch;
    if (use.model->covers(use.format, shape.rows, shape.columns, use.threads)) continue;
    std::string text =
        fmt::format("{} ({} x {}, {})", products.name, shape.rows, shape.columns, use.format);
    const bool said =
        std::find(extrapolated_.begin(), extrapolated_.end(), text) != extrapolated_.end();
    if (!said) extrapolated_.push_back(std::move(text));
  }
  Rates rates = plain;
  rates.launch_us = launch * 1e6 * static_cast<double>(products.launches);
  rates.kernel_gbps = bytes / streaming / 1e9;
  return rates;
}

void TaskCosts::set_dense_rates(const MoeModel& model, const KernelUse& use) {
  const std::size_t hidden = model.hidden_size;
  const auto block = [&](const char* name, std::size_t intermediate) {
    Products products{name, {}, 2};
    if (intermediate > 0) {
      products.shapes = block_products(model.expert_matrices, intermediate, hidden);
    }
    return product_rates(dense_rates_, use, products);
  };
  const bool has_dense_layers = model.moe_layers.size() < model.num_hidden_layers;
  router_rates_ = product_rates(dense_rates_, use, {"routers", {{model.num_experts, hidden}}});
  shared_rates_ = block("shared experts", model.shared_expert_intermediate_size);
  dense_ffn_rates_ = block("dense layers", has_dense_layers ? model.intermediate_size : 0);
  head_rates_ = product_rates(dense_rates_, use, {"the head", {{model.vocab_size, hidden}}});
  if (use.model == nullptr) {
    mixer_rates_ = {dense_rates_};
    return;
  }
  // All products of a mixer as one matrix over the hidden state: one rate, and one launch.
  std::vector<std::uint64_t> sizes;
  for (LayerBytes& layer : layers_) {
    const auto found = std::find(sizes.begin(), sizes.end(), layer.mixer);
    layer.rates = static_cast<std::size_t>(found - sizes.begin());
    if (found != sizes.end()) continue;
    sizes.push_back(layer.mixer);
    const std::uint64_t rows = layer.mixer / kernel_row_bytes(use.format, hidden);
    mixer_rates_.push_back(product_rates(
        dense_rates_, use, {"attention", {{std::max<std::uint64_t>(rows, 1), hidden}}}));
  }
}

void TaskCosts::set_expert_rates(const MoeModel& model, const KernelUse& use,
                                 std::uint64_t expert_bytes) {
  if (use.model == nullptr) return;
  const std::size_t hidden = model.hidden_size;
  const std::size_t intermediate = model.moe_intermediate_size;
  Products whole{"experts", block_products(model.expert_matrices, intermediate, hidden), 2};
  Products down{"experts", {{hidden, intermediate}}};
  if (overlap_ == Overlap::kProjection) {
    whole.shapes = upper_products(model.expert_matrices, intermediate, hidden);
    whole.launches = 1;
  }
  shaped_rates_ = {product_rates(expert_rates_, use, whole),
                   product_rates(expert_rates_, use, down)};
  shaped_expert_bytes_ = expert_bytes;
  // Experts of another size, where the device has no rate for their format.
  if (expert_rates_.kernel_gbps == 0) expert_rates_ = shaped_rates_[0];
}

}  // namespace moesim
