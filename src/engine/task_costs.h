// What each task burdens the machine with: fixed time and bytes on the compute agent, bytes on
// flash. Closed under the model, the weight formats, the device and the thread count.
//
// Where the device has a kernel model that knows the format and the thread count, a product of
// known shape has the launch time and the rate that it gives; else the kernel rate of the format
// holds.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/units.h"
#include "engine/token_schedule.h"
#include "hardware/device.h"
#include "hardware/thermal.h"
#include "model/moe_model.h"
#include "model/token_graph.h"

namespace moesim {

// Bits per weight. Experts may have recorded sizes instead (trace tensor expert_bytes). A format
// names the kernel rate of the device that holds; "": the one that fits the bits.
struct WeightBits {
  double expert = 16;
  double dense = 16;
  double kv = 16;
  std::string expert_format{};
  std::string dense_format{};
};

// A weight format, told by the size of the experts that have it.
struct ExpertFormat {
  std::uint64_t expert_bytes = 0;
  double bits = 16;  // per weight; scales need not be included
};

// Bytes of so many parameters, rounded; at least one byte where there are any.
std::uint64_t bytes_of(std::uint64_t params, double bits);

// How an expert lies in flash: gate, up and down apart (three reads), gate and up as one tensor
// (two reads), or one run of bytes.
enum class ExpertLayout : std::uint8_t { kSlices, kFused, kContiguous };

// How a miss is read: by reads of the engine into its own memory, or by page faults of the threads
// that compute.
enum class ReadPath : std::uint8_t { kDirect, kMmap };

struct ExecutionOptions {
  Overlap overlap = Overlap::kNone;
  std::size_t lanes = 1;
  std::size_t threads = 1;
  ExpertLayout layout = ExpertLayout::kSlices;
  bool service_noise = false;  // log-normal flash service times, spread as the device file says
  double clock = 1;            // the CPU's, over that of the device file
  std::optional<double> clock_ghz = std::nullopt;  // the same, where the configuration holds one
  ThermalStart thermal = ThermalStart::kOff;       // on: heat decides on the clock instead
  std::string dense_agent = kCpuAgent;   // attention, dense and shared blocks, routers, head
  std::string expert_agent = kCpuAgent;  // routed experts
  // Whether reads of flash land in a bounce buffer and are copied from there. Unset: the device has
  // no rate for the copy, and its dma_factor alone says what DRAM sees of reads.
  std::optional<bool> bounce;
  ReadPath read_path = ReadPath::kDirect;
};

// `nominal`: time of the bytes at `rate`, when nobody else uses DRAM. `agent`: 0 is the CPU, then
// those of the device by name.
struct ComputeCost {
  Duration fixed{};
  Duration nominal{};
  BytesPerSecond rate{};
  std::uint64_t bytes = 0;
  std::uint8_t agent = 0;
};

// The reads of one fetch task: up to three, of an expert in two parts up to six, of a memory map
// one per thread, but no more than these.
inline constexpr std::size_t kMostReads = 6;
struct ReadSizes {
  std::array<std::uint64_t, kMostReads> bytes{};
  std::size_t count = 0;
};

class TaskCosts {
 public:
  // `formats`: where experts differ, every size that there is; else WeightBits::expert decides.
  TaskCosts(const MoeModel& model, const Device& device, const WeightBits& bits,
            const ExecutionOptions& execution, std::span<const ExpertFormat> formats = {});

  // From now on the CPU runs at this clock, over that of the device file: its kernel rates, the
  // overhead of a layer and admission follow, DRAM and other agents do not. REQUIRES: > 0.
  void set_clock(double relative);

  // Tasks without an expert. `position`: tokens before the first of the pass; `tokens`: tokens of
  // the pass. Fixed cost: the device's overhead per layer, once per layer, with its attention.
  [[nodiscard]] ComputeCost task(const Task& task, std::uint32_t position,
                                 std::uint32_t tokens) const;
  // The same for a pass that decodes one token of each of several sequences: weights stream once
  // and are multiplied once per token; each token reads its own key-value cache, and one that
  // changed to this batch has its cache copied first (read and written at the rate of DRAM); the
  // head runs for every token. One token that has not moved costs what task() says.
  [[nodiscard]] ComputeCost batch_task(const Task& task, std::span<const PassToken> tokens) const;
  // kExpert and kExpertDown of an expert of `expert_bytes` that serves `tokens` tokens.
  [[nodiscard]] ComputeCost expert(TaskKind kind, std::uint64_t expert_bytes,
                                   std::uint32_t tokens) const;
  // A product like that of a router.
  [[nodiscard]] ComputeCost predictor(std::uint64_t bytes) const;
  // What task() has in the fixed cost of a layer's attention for all that is no product, at the
  // clock in force (device key cpu.layer_overhead_us).
  [[nodiscard]] Duration layer_overhead() const { return layer_overhead_; }
  // Committing the pages of an expert.
  [[nodiscard]] Duration admission(std::uint64_t expert_bytes) const;
  // What it takes when work changes between two agents: the longer of their synchronisations.
  [[nodiscard]] Duration change_of_agent(std::uint8_t from, std::uint8_t to) const {
    return from == to ? Duration::zero() : std::max(agents_[from].sync, agents_[to].sync);
  }
  // The reads of kFetch or kFetchDown.
  [[nodiscard]] ReadSizes reads(TaskKind kind, std::uint64_t expert_bytes) const;
  // All reads of an expert, for speculation.
  [[nodiscard]] ReadSizes all_reads(std::uint64_t expert_bytes) const;

  // Weight bytes outside the routed experts, the input embedding included.
  [[nodiscard]] std::uint64_t dense_bytes() const { return dense_bytes_; }
  // Key-value cache after `tokens` tokens of one sequence.
  [[nodiscard]] std::uint64_t kv_bytes(std::uint64_t tokens) const;
  // What batch_task() copies before a pass, over all layers, reads and writes.
  [[nodiscard]] std::uint64_t kv_copy_bytes(std::span<const PassToken> tokens) const;
  // Agents other than the CPU that work is given to, by number (1 is the first).
  [[nodiscard]] std::uint8_t dense_agent() const { return dense_rates_.agent; }
  [[nodiscard]] std::uint8_t expert_agent() const { return expert_agent_; }
  // Weight formats that the device has no kernel rate for: bound by DRAM alone.
  [[nodiscard]] const std::vector<std::string>& formats_without_rate() const { return no_rate_; }
  // Products whose shape lies outside those that the kernel model was fitted to, with the shape.
  [[nodiscard]] const std::vector<std::string>& extrapolated_products() const {
    return extrapolated_;
  }

 private:
  // Rates of one weight format on one agent: what DRAM gives it, and what the kernel does at the
  // clock in force (0: unknown) and at that of the device file.
  struct Rates {
    BytesPerSecond dram{};
    std::uint64_t kernel = 0;
    double kernel_gbps = 0;
    std::uint8_t agent = 0;
    Duration launch{};
    double launch_us = 0;  // where the kernel model says so: at the clock of the device file
  };
  // Products with weights of one format by a number of threads.
  struct KernelUse {
    const KernelModel* model = nullptr;  // null: rates alone
    std::string format{};
    std::size_t threads = 0;
  };
  // Products that one task consists of; those of one launch follow each other without a barrier.
  struct Products {
    std::string name;  // for warnings
    std::vector<KernelShape> shapes;
    std::size_t launches = 1;
  };
  // What any operator on it costs. The CPU comes first and costs nothing.
  struct AgentCosts {
    Duration launch{};
    Duration sync{};
  };
  struct LayerBytes {
    std::uint64_t mixer = 0;
    std::uint64_t kv_per_token = 0;
    std::uint64_t window = 0;  // 0: all positions
    std::size_t rates = 0;     // index in mixer_rates_
  };

  // `format` "": the one of `bits`. `modelled`: all of its products have shapes that a kernel model
  // knows, so that it needs no rate.
  Rates rates_for(double bits, std::string format, const Device& device,
                  const ExecutionOptions& execution, const std::string& agent, bool modelled);
  void set_dense_rates(const MoeModel& model, const KernelUse& use);
  void set_expert_rates(const MoeModel& model, const KernelUse& use, std::uint64_t expert_bytes);
  // `plain`, or what the kernel model says of these products.
  Rates product_rates(const Rates& plain, const KernelUse& use, const Products& products);
  [[nodiscard]] static KernelUse kernel_use(double bits, const std::string& format,
                                            const Device& device, const ExecutionOptions& execution,
                                            const std::string& agent);
  Rates agent_rates(const std::string& format, const Device& device, const std::string& name);
  void note_format_without_rate(const std::string& name);
  static void set_clock(Rates& rates, double relative);
  [[nodiscard]] static ComputeCost cost(std::uint64_t bytes, const Rates& rates,
                                        std::uint32_t tokens);
  [[nodiscard]] std::uint64_t kv_read_bytes(const LayerBytes& layer, std::uint32_t position,
                                            std::uint32_t tokens) const;
  [[nodiscard]] ComputeCost batch_attention(const LayerBytes& layer,
                                            std::span<const PassToken> tokens) const;
  [[nodiscard]] static std::uint64_t kv_copy_bytes(const LayerBytes& layer,
                                                   std::span<const PassToken> tokens);
  [[nodiscard]] std::uint64_t down_bytes(std::uint64_t expert_bytes) const;
  [[nodiscard]] const Rates& rates_of_expert(TaskKind kind, std::uint64_t expert_bytes) const;

  std::vector<LayerBytes> layers_;  // [hidden layers]
  std::uint64_t router_bytes_ = 0;
  std::uint64_t shared_bytes_ = 0;
  std::uint64_t dense_ffn_bytes_ = 0;
  std::uint64_t head_bytes_ = 0;
  std::uint64_t dense_bytes_ = 0;
  std::size_t expert_matrices_ = 3;
  Overlap overlap_;
  ExpertLayout layout_;
  std::size_t mapped_reads_ = 0;  // of an expert through a memory map; 0: read directly
  double layer_overhead_us_ = 0;  // at the clock of the device file, as the next but one
  Duration layer_overhead_{};
  double page_bytes_ = 4096;
  double nominal_admit_us_ = 0;
  double admit_us_per_page_ = 0;
  std::vector<AgentCosts> agents_;  // by number
  std::uint8_t expert_agent_ = 0;
  Rates dense_rates_;
  Rates router_rates_;
  Rates shared_rates_;
  Rates dense_ffn_rates_;
  Rates head_rates_;
  std::vector<Rates> mixer_rates_;  // few: one per size of a mixer
  Rates expert_rates_;
  // Of experts with the model's own shape, which has so many bytes: whole or gate and up; down.
  // 0: no kernel model says more than expert_rates_.
  std::uint64_t shaped_expert_bytes_ = 0;
  std::array<Rates, 2> shaped_rates_;
  struct SizedRates {
    std::uint64_t expert_bytes = 0;
    Rates rates;
  };
  std::vector<SizedRates> sized_rates_;  // few: one per weight format
  // Of one token: the tasks whose cost does not depend on its position, and the expert sizes met
  // last, because sizes repeat from visit to visit.
  ComputeCost router_;
  ComputeCost shared_;
  ComputeCost dense_ffn_;
  ComputeCost head_;
  struct KnownExpert {
    std::uint64_t expert_bytes = 0;
    ComputeCost cost;
  };
  mutable std::array<KnownExpert, 2> known_experts_;  // whole or gate and up; down
  std::vector<std::string> no_rate_;
  std::vector<std::string> extrapolated_;
};

}  // namespace moesim
