#include "calibration/machine_local.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "calibration/machine_facts.h"
#include "calibration/small_operators.h"
#include "calibration/weight_places.h"
#include "core/errors.h"
#include "core/rng.h"
#include "core/units.h"
#include "kernels/gemv.h"

namespace moesim {
namespace {

constexpr std::uint64_t kLeastWeights = std::uint64_t{256} << 20;
constexpr std::uint64_t kMostWeights = std::uint64_t{1} << 30;
constexpr std::uint64_t kCachesOver = 32;  // weights over the last-level cache
constexpr std::size_t kPlace = 4096;       // where weights may begin, as in a store of experts
// Of a streaming read: short enough to fall between two programs that take turns on a core.
constexpr std::size_t kStreamBytes = std::size_t{32} << 20;
// What a repetition of a small product moves, so that the clock and the first wake-up do not count.
constexpr std::size_t kBytesAtOnce = std::size_t{16} << 20;
constexpr std::size_t kMostAtOnce = 512;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Seconds of one of `times` calls.
template <class Work>
double time_each(std::size_t times, Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < times; ++i) work();
  return seconds_since(start) / static_cast<double>(times);
}

std::size_t times_for(std::size_t bytes) {
  return std::clamp<std::size_t>(kBytesAtOnce / std::max<std::size_t>(bytes, 1), 1, kMostAtOnce);
}

std::uint64_t weight_bytes(const LocalMachineOptions& options, const MachineFacts& facts) {
  const std::uint64_t most = std::clamp(options.memory_bytes / 2, kLeastWeights, kMostWeights);
  const std::uint64_t wanted =
      std::clamp(kCachesOver * last_level_cache_bytes(), kLeastWeights, most);
  const std::uint64_t needed = wanted + kReadTargetBytes;
  const double available = facts.available_mib * static_cast<double>(kMiB);
  if (needed > options.memory_bytes) {
    throw user_error("--max-memory-gib",
                     fmt::format("expected at least {:.2f} GiB, which the measurements take, got "
                                 "{:.2f} GiB",
                                 to_mib(needed) / 1024, to_mib(options.memory_bytes) / 1024));
  }
  if (static_cast<double>(needed) > available) {
    throw user_error("memory", fmt::format("expected {:.0f} MiB to be available, got {:.0f} MiB",
                                           to_mib(needed), facts.available_mib));
  }
  return wanted;
}

// Words that are numbers of ordinary size, whichever format they are read as: halves of 2^-7 to
// 2^-3; a NaN or a subnormal number could take longer.
void fill_weights(std::span<std::byte> memory) {
  constexpr std::uint64_t kRandom = 0x8FFF8FFF8FFF8FFFU;
  constexpr std::uint64_t kExponent = 0x2000200020002000U;
  Rng rng = Rng::for_component(1, "weights");
  for (std::size_t i = 0; i + sizeof(std::uint64_t) <= memory.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t word = (rng.next() & kRandom) | kExponent;
    std::memcpy(memory.data() + i, &word, sizeof(word));
  }
}

}  // namespace

LocalMachine::LocalMachine(const LocalMachineOptions& options)
    : options_(options),
      facts_(machine_facts()),
      weights_(weight_bytes(options, facts_)),
      file_(options.folder) {
  facts_.stream_bytes = kStreamBytes;
  facts_.largest_matrix = weights_.size() / 2;
  facts_.direct = options.direct;
  const ReadSupport uring = uring_support();
  facts_.uring = uring.available;
  facts_.no_uring = uring.reason;
  if (options.direct) require_direct(options.folder, direct_support(file_.path()));
  fill_weights(weights_.bytes());
}

double LocalMachine::now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ThreadTeam& LocalMachine::team(std::size_t threads) {
  std::unique_ptr<ThreadTeam>& team = teams_[threads];
  if (!team) team = std::make_unique<ThreadTeam>(threads);
  return *team;
}

const std::byte* LocalMachine::next_weights(std::size_t bytes) {
  next_place_ = next_place(next_place_, (weights_.size() - bytes) / kPlace + 1);
  return weights_.data() + next_place_ * kPlace;
}

// An empty job is over before threads that sleep have begun; this one keeps the caller busy until
// they have.
void LocalMachine::wake(ThreadTeam& workers) {
  constexpr std::size_t kBytes = std::size_t{4} << 20;
  read_memory({next_weights(kBytes), kBytes}, workers);
}

double LocalMachine::stream_s(std::size_t threads) {
  ThreadTeam& workers = team(threads);
  wake(workers);
  return time_each(1, [&] { read_memory({next_weights(kStreamBytes), kStreamBytes}, workers); });
}

double LocalMachine::product_s(WeightFormat format, std::size_t rows, std::size_t columns,
                               std::size_t threads) {
  WeightMatrix w{format, rows, columns, nullptr};
  x_.resize(std::max(x_.size(), columns), 0.5F);
  y_.resize(std::max(y_.size(), rows));
  ThreadTeam& workers = team(threads);
  wake(workers);
  return time_each(times_for(w.bytes()), [&] {
    w.data = next_weights(w.bytes());
    gemv(w, {x_.data(), columns}, {y_.data(), rows}, workers);
  });
}

double LocalMachine::expert_s(WeightFormat format, std::size_t hidden, std::size_t intermediate,
                              std::size_t threads) {
  ExpertWeights expert{{format, intermediate, hidden, nullptr},
                       {format, intermediate, hidden, nullptr},
                       {format, hidden, intermediate, nullptr}};
  x_.resize(std::max(x_.size(), hidden), 0.5F);
  y_.resize(std::max(y_.size(), hidden));
  scratch_.resize(std::max(scratch_.size(), 2 * intermediate));
  ThreadTeam& workers = team(threads);
  wake(workers);
  return time_each(times_for(expert.bytes()), [&] {
    expert.gate.data = next_weights(expert.bytes());
    expert.up.data = expert.gate.data + expert.gate.bytes();
    expert.down.data = expert.up.data + expert.up.bytes();
    expert_ffn(expert, {x_.data(), hidden}, {scratch_.data(), 2 * intermediate},
               {y_.data(), hidden}, workers);
  });
}

double LocalMachine::barrier_s(std::size_t threads) {
  constexpr std::size_t kJobs = 200;
  ThreadTeam& workers = team(threads);
  wake(workers);
  return time_each(kJobs, [&] { workers.run([] {}); });
}

// Between two layers more weights pass than the caches hold, so code and data of what is measured
// are read from memory, as in decoding.
double LocalMachine::operators_s(std::size_t hidden, std::size_t outputs) {
  constexpr std::size_t kLayers = 8;
  const AlignedFloats norm(hidden, 1.0F);
  const AlignedFloats experts(outputs * hidden, 0.25F);
  const AlignedFloats shares(outputs, 1.0F / static_cast<float>(outputs));
  AlignedFloats x(hidden, 0.5F);
  AlignedFloats y(hidden, 0.5F);
  if (!decision_) decision_ = std::make_unique<LayerDecision>();
  double seconds = 0;
  for (std::size_t layer = 0; layer < kLayers; ++layer) {
    read_memory({next_weights(kStreamBytes), kStreamBytes}, team(1));
    seconds += time_each(1, [&] {
      for (int half = 0; half < 2; ++half) {  // attention, then experts
        rms_norm(x, norm, y);
        add_to(y, x);
      }
      decision_->decide();
      combine(experts, shares, x);
    });
  }
  return seconds / static_cast<double>(kLayers);
}

// Pages of their usual size: a huge one is committed for 512 of them at once.
double LocalMachine::admit_s(std::size_t pages) {
  const std::size_t page = static_cast<std::size_t>(facts_.page_kib * 1024);
  const std::size_t bytes = pages * page;
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    throw user_error("memory",
                     fmt::format("expected {:.1f} MiB to be free, got less", to_mib(bytes)));
  }
#ifdef MADV_NOHUGEPAGE
  madvise(memory, bytes, MADV_NOHUGEPAGE);
#endif
  volatile auto* const data = static_cast<unsigned char*>(memory);
  const auto start = std::chrono::steady_clock::now();
  for (std::size_t i = 0; i < bytes; i += page) data[i] = 1;
  const double seconds = seconds_since(start);
  munmap(memory, bytes);
  return seconds / static_cast<double>(pages);
}

}  // namespace moesim
