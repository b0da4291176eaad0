#include "calibration/machine_state.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <vector>

#include "calibration/flash_fit.h"
#include "core/errors.h"
#include "core/rng.h"
#include "kernels/gemv.h"
#include "kernels/store/expert_store.h"

namespace moesim {
namespace {

constexpr std::size_t kStreamBytes = std::size_t{32} << 20;  // as calibration reads at once
constexpr std::size_t kReadBytes = std::size_t{1} << 20;
constexpr std::size_t kStreams = 60;
constexpr std::size_t kReads = 150;

// Less than a MiB where the file is smaller.
std::size_t read_size(std::uint64_t file_bytes) {
  return std::min<std::uint64_t>(kReadBytes, file_bytes / kStorePage * kStorePage);
}

// GB/s in the median of so many calls that move `bytes`.
template <class Work>
double median_gbps(std::size_t times, std::size_t bytes, Work&& work) {
  std::vector<double> rates;
  rates.reserve(times);
  for (std::size_t i = 0; i < times; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work(i);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    rates.push_back(static_cast<double>(bytes) / seconds.count() * 1e-9);
  }
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>(rates.size() / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  return *middle;
}

}  // namespace

MachineState expected_state(const Device& device, std::size_t threads, std::uint64_t file_bytes) {
  const double cores = static_cast<double>(threads) * device.dram.cpu_core_gbps;
  return {std::min(device.dram.cpu_gbps, cores),
          simulate_throughput(*device.flash, read_size(file_bytes), 1) * 1e-9};
}

MachineState measure_state(const PageMemory& memory, ThreadTeam& team, StoreReader& reader,
                           std::uint64_t file_bytes) {
  if (memory.size() < kStateMemory) throw InvariantError("too little memory to measure it");
  const std::size_t parts = memory.size() / kStreamBytes;
  MachineState state;
  state.stream_gbps = median_gbps(kStreams, kStreamBytes, [&](std::size_t i) {
    read_memory(memory.bytes().subspan(i % parts * kStreamBytes, kStreamBytes), team);
  });
  Rng rng = Rng::for_component(1, "state of the machine");
  const std::size_t size = read_size(file_bytes);
  const std::uint64_t places = (file_bytes - size) / kStorePage + 1;
  state.read_gbps = median_gbps(kReads, size, [&](std::size_t i) {
    reader.submit({rng.below(places) * kStorePage, size, memory.data() + i % 64 * kReadBytes, 0});
    reader.wait();
  });
  return state;
}

}  // namespace moesim
