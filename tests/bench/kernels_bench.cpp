// The kernels beside what the machine's memory gives. Each turn times the kernel, a plain sum over
// as many bytes (same threads) and Eigen's products, one after the other on weights that are in no
// cache, so that a slow moment hits all of them. Counters: GB/s of each in the median turn, and
//   ratio       kernel / plain read, medians
//   ratio_best  the same of the fastest tenth: what is left when others disturb the machine
// Eigen's product runs on one thread. The results are checked against the error bound before.
#include <benchmark/benchmark.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "bench/eigen_products.h"
#include "core/rng.h"
#include "kernels/aligned_floats.h"
#include "kernels/gemv.h"
#include "kernels/reference.h"
#include "kernels/simd_target.h"
#include "kernels/weight_matrix.h"

namespace moesim::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kDistinctRows = 64;
constexpr std::size_t kSlotAlignment = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

struct Shape {
  const char* name;
  std::size_t rows;
  std::size_t columns;
};

constexpr Shape kShapes[] = {{"olmoe_up", 1024, 2048},    {"olmoe_down", 2048, 1024},
                             {"qwen3_up", 768, 2048},     {"qwen3_down", 2048, 768},
                             {"mixtral_up", 14336, 4096}, {"mixtral_down", 4096, 14336}};
constexpr Shape kExperts[] = {{"olmoe", 1024, 2048}, {"qwen3", 768, 2048}};

// Four times the last-level cache, so that no turn finds what an earlier one left.
std::size_t arena_bytes() {
  const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
  return std::max<std::size_t>(std::size_t{128} << 20,
                               cache > 0 ? 4 * static_cast<std::size_t>(cache) : 0);
}

AlignedFloats random_floats(std::size_t count, const char* name, double scale) {
  Rng rng = Rng::for_component(1, name);
  AlignedFloats values(count);
  for (float& value : values) value = static_cast<float>(rng.normal() * scale);
  return values;
}

// At least `bytes` of memory, the same at each call, because getting so much takes longer than
// filling it. In large pages where there are any: otherwise both the kernels and the plain sum wait
// for page tables.
std::byte* shared_memory(std::size_t bytes) {
  static std::unique_ptr<std::byte, decltype(&std::free)> memory(nullptr, &std::free);
  static std::size_t size = 0;
  if (bytes > size) {
    size = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    memory.reset();
    memory.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, size)));
    madvise(memory.get(), size, MADV_HUGEPAGE);
  }
  return memory.get();
}

// Slots that all hold the same bytes. One at a time is alive.
class Arena {
 public:
  explicit Arena(const std::vector<std::byte>& content)
      : slot_bytes_((content.size() + kSlotAlignment - 1) / kSlotAlignment * kSlotAlignment),
        slots_(std::max<std::size_t>(1, arena_bytes() / slot_bytes_)),
        memory_(shared_memory(slot_bytes_ * slots_)) {
    for (std::size_t i = 0; i < slots_; ++i) {
      std::memcpy(memory_ + i * slot_bytes_, content.data(), content.size());
    }
  }

  // Another one than in the last call.
  const std::byte* next() {
    next_ = (next_ + 1) % slots_;
    return memory_ + next_ * slot_bytes_;
  }

 private:
  std::size_t slot_bytes_;
  std::size_t slots_;
  std::byte* memory_;
  std::size_t next_ = 0;
};

// A few random rows over and over: encoding is slow, and the kernels do not look at values.
void append_matrix(WeightFormat format, std::size_t rows, std::size_t columns,
                   std::vector<std::byte>& out) {
  std::vector<std::byte> distinct(kDistinctRows * weight_row_bytes(format, columns));
  const WeightMatrix pattern{format, kDistinctRows, columns, distinct.data()};
  const auto weights = random_floats(kDistinctRows * columns, "weights", 0.02);
  for (std::size_t r = 0; r < kDistinctRows; ++r) {
    encode_matrix_row(pattern, r, {weights.data() + r * columns, columns}, distinct.data());
  }
  const WeightMatrix matrix{format, rows, columns, nullptr};
  out.resize(out.size() + matrix.bytes());
  repeat_rows(pattern, matrix, out.data() + out.size() - matrix.bytes());
}

// Seconds of one call after the other.
struct Times {
  std::vector<double> seconds;

  template <class Work>
  double measure(Work work) {
    const auto start = Clock::now();
    work();
    seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    return seconds.back();
  }

  double quantile(double share) {
    std::sort(seconds.begin(), seconds.end());
    return seconds[static_cast<std::size_t>(share * static_cast<double>(seconds.size() - 1))];
  }
  double gbps(double bytes, double share = 0.5) { return bytes / quantile(share) * 1e-9; }
};

// The threads of a decode loop come from one product to the next and are awake.
void wake(ThreadTeam& team) {
  for (int i = 0; i < 8; ++i) team.run([] {});
}

void report(benchmark::State& state, double bytes, Times& kernel, Times& memory) {
  state.counters["GBps"] = kernel.gbps(bytes);
  state.counters["read_GBps"] = memory.gbps(bytes);
  state.counters["ratio"] = memory.quantile(0.5) / kernel.quantile(0.5);
  state.counters["ratio_best"] = memory.quantile(0.1) / kernel.quantile(0.1);
  state.SetLabel(simd_target());
}

// The reference is of the first rows; those behind them repeat.
bool within_bounds(const Reference& reference, const AlignedFloats& y) {
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t row = i % reference.values.size();
    const double error = std::abs(static_cast<double>(y[i]) - reference.values[row]);
    if (!(error <= reference.bounds[row])) return false;
  }
  return true;
}

bool right_product(const WeightMatrix& w, const AlignedFloats& x, const AlignedFloats& y) {
  const WeightMatrix distinct{w.format, kDistinctRows, w.columns, w.data, w.rows};
  return within_bounds(reference_gemv(distinct, x), y);
}

void run_gemv(benchmark::State& state, WeightFormat format, const Shape& shape,
              std::size_t threads) {
  ThreadTeam team(threads);
  std::vector<std::byte> content;
  append_matrix(format, shape.rows, shape.columns, content);
  Arena arena(content);
  const auto x = random_floats(shape.columns, "input", 1);
  AlignedFloats y(shape.rows);
  const auto matrix = [&] { return WeightMatrix{format, shape.rows, shape.columns, arena.next()}; };

  gemv(matrix(), x, y, team);
  if (!right_product(matrix(), x, y)) {
    state.SkipWithError("the product is wrong");
    return;
  }
  Times kernel;
  Times memory;
  Times eigen;
  for ([[maybe_unused]] auto turn : state) {
    wake(team);
    state.SetIterationTime(kernel.measure([&] { gemv(matrix(), x, y, team); }));
    memory.measure([&] {
      benchmark::DoNotOptimize(read_memory({arena.next(), content.size()}, team));
    });
    if (format == WeightFormat::kFp16) {
      eigen.measure(
          [&] { eigen_half_product(arena.next(), shape.rows, shape.columns, x.data(), y.data()); });
    }
    benchmark::ClobberMemory();
  }
  const auto bytes = static_cast<double>(content.size());
  report(state, bytes, kernel, memory);
  if (format == WeightFormat::kFp16) state.counters["eigen_GBps"] = eigen.gbps(bytes);
}

void run_ffn(benchmark::State& state, WeightFormat format, const Shape& shape,
             std::size_t threads) {
  ThreadTeam team(threads);
  std::vector<std::byte> content;
  append_matrix(format, shape.rows, shape.columns, content);
  append_matrix(format, shape.rows, shape.columns, content);
  append_matrix(format, shape.columns, shape.rows, content);
  Arena arena(content);
  const auto x = random_floats(shape.columns, "input", 1);
  AlignedFloats y(shape.columns);
  AlignedFloats scratch(2 * shape.rows);
  const auto expert = [&] {
    const WeightMatrix gate{format, shape.rows, shape.columns, arena.next()};
    const WeightMatrix up{format, shape.rows, shape.columns, gate.data + gate.bytes()};
    return ExpertWeights{gate, up, {format, shape.columns, shape.rows, up.data + up.bytes()}};
  };

  expert_ffn(expert(), x, scratch, y, team);
  if (!within_bounds(reference_ffn(expert(), x), y)) {
    state.SkipWithError("the expert's output is wrong");
    return;
  }
  Times kernel;
  Times memory;
  for ([[maybe_unused]] auto turn : state) {
    wake(team);
    state.SetIterationTime(kernel.measure([&] { expert_ffn(expert(), x, scratch, y, team); }));
    memory.measure([&] {
      benchmark::DoNotOptimize(read_memory({arena.next(), content.size()}, team));
    });
  }
  report(state, static_cast<double>(content.size()), kernel, memory);
}

// Eigen's own best: weights in fp32, twice the bytes of fp16.
void run_eigen_float(benchmark::State& state, const Shape& shape) {
  ThreadTeam team(1);
  const std::size_t bytes = shape.rows * shape.columns * sizeof(float);
  std::vector<std::byte> content(bytes);
  const auto weights = random_floats(kDistinctRows * shape.columns, "weights", 0.02);
  for (std::size_t at = 0; at < bytes; at += weights.size() * sizeof(float)) {
    std::memcpy(content.data() + at, weights.data(),
                std::min(bytes - at, weights.size() * sizeof(float)));
  }
  Arena arena(content);
  const auto x = random_floats(shape.columns, "input", 1);
  AlignedFloats y(shape.rows);
  Times eigen;
  Times memory;
  for ([[maybe_unused]] auto turn : state) {
    const auto* w = reinterpret_cast<const float*>(arena.next());
    state.SetIterationTime(eigen.measure(
        [&] { eigen_float_product(w, shape.rows, shape.columns, x.data(), y.data()); }));
    memory.measure([&] { benchmark::DoNotOptimize(read_memory({arena.next(), bytes}, team)); });
    benchmark::ClobberMemory();
  }
  report(state, static_cast<double>(bytes), eigen, memory);
}

// An empty job: what sharing a product costs.
void team_run(benchmark::State& state) {
  ThreadTeam team(static_cast<std::size_t>(state.range(0)));
  for ([[maybe_unused]] auto turn : state) team.run([] {});
}

// A job that ends when all threads have joined: a barrier.
void team_barrier(benchmark::State& state) {
  ThreadTeam team(static_cast<std::size_t>(state.range(0)));
  for ([[maybe_unused]] auto turn : state) {
    std::atomic<std::size_t> joined{0};
    team.run([&] {
      joined.fetch_add(1);
      while (joined.load() < team.size()) std::this_thread::yield();
    });
  }
}

std::string label(const char* kind, std::string_view format, const Shape& shape,
                  std::size_t threads) {
  return std::string(kind) + "/" + std::string(format) + "/" + shape.name +
         "/threads:" + std::to_string(threads);
}

void register_all() {
  for (const std::size_t threads : {1U, 2U}) {
    for (const WeightFormat format : kWeightFormats) {
      const auto name = weight_format_name(format);
      for (const Shape& shape : kShapes) {
        benchmark::RegisterBenchmark(
            label("gemv", name, shape, threads).c_str(),
            [=](benchmark::State& state) { run_gemv(state, format, shape, threads); })
            ->UseManualTime();
      }
      for (const Shape& shape : kExperts) {
        benchmark::RegisterBenchmark(
            label("expert_ffn", name, shape, threads).c_str(),
            [=](benchmark::State& state) { run_ffn(state, format, shape, threads); })
            ->UseManualTime();
      }
    }
  }
  for (const Shape& shape : kShapes) {
    benchmark::RegisterBenchmark(label("eigen_gemv", "fp32", shape, 1).c_str(),
                                 [=](benchmark::State& state) { run_eigen_float(state, shape); })
        ->UseManualTime();
  }
}

[[maybe_unused]] const bool kRegistered = (register_all(), true);

BENCHMARK(team_run)->Arg(1)->Arg(2)->UseRealTime();
BENCHMARK(team_barrier)->Arg(1)->Arg(2)->UseRealTime();

}  // namespace
}  // namespace moesim::bench
