// A machine that answers from formulas, with a clock of its own: a whole calibration without time.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "calibration/flash_fit.h"
#include "calibration/machine_probe.h"

namespace moesim::test {

class FakeMachine : public MachineProbe {
 public:
  FakeMachine() {
    spec.host_delay_us = 60;
    spec.dev_cmd_us = 10;
    spec.bw_gbps = 3;
    spec.qd_limit = 64;
    about.cores = 2;
    about.simd = "AVX2";
    about.available_mib = 4000;
    about.stream_bytes = std::uint64_t{32} << 20;
    about.largest_matrix = std::uint64_t{128} << 20;
    about.uring = true;
  }

  FlashSpec spec;
  MachineFacts about;
  double commands_per_s = 40000;  // what small reads are held back by
  std::uint64_t faults_per_touch = 512;
  std::uint64_t scratch = std::uint64_t{256} << 20;
  std::size_t measurements = 0;

  static double rate_gbps(std::size_t threads) { return threads == 1 ? 10 : 16; }

  double now_s() override { return now_; }
  MachineFacts facts() override { return about; }
  double stream_s(std::size_t threads) override {
    return took(static_cast<double>(about.stream_bytes) / (rate_gbps(threads) * 1e9));
  }
  double product_s(WeightFormat format, std::size_t rows, std::size_t columns,
                   std::size_t threads) override {
    const auto bytes = static_cast<double>(weight_row_bytes(format, columns) * rows);
    return took(3e-6 + bytes / (0.9e9 * rate_gbps(threads)));
  }
  double expert_s(WeightFormat format, std::size_t hidden, std::size_t intermediate,
                  std::size_t threads) override {
    return 2 * product_s(format, intermediate, hidden, threads) - 3e-6 +
           product_s(format, hidden, intermediate, threads);
  }
  double barrier_s(std::size_t threads) override {
    return took(1e-6 * static_cast<double>(threads));
  }
  double operators_s(std::size_t, std::size_t) override { return took(5e-6); }

  std::uint64_t write_scratch(double budget_s, const std::function<void()>& tick) override {
    took(budget_s / 2);
    tick();
    return scratch;
  }
  ReadSample read(const ReadCell& cell, double slice_s) override {
    took(slice_s);
    const double queue = simulate_throughput(spec, cell.read_bytes, cell.depth);
    ReadSample sample;
    sample.bytes_per_s = std::min(queue, commands_per_s * static_cast<double>(cell.read_bytes));
    const double read_s = static_cast<double>(cell.read_bytes) / sample.bytes_per_s;
    if (cell.depth == 1) sample.read_s = {0.9 * read_s, read_s, read_s, 1.1 * read_s, 9 * read_s};
    return sample;
  }
  FaultSample fault(std::uint64_t bytes) override {
    const double seconds = took(50e-6 * static_cast<double>(faults_per_touch));
    return {bytes, faults_per_touch, seconds};
  }
  double admit_s(std::size_t pages) override {
    took(0.2e-6 * static_cast<double>(pages));
    return 0.2e-6;
  }

 private:
  double took(double seconds) {
    ++measurements;
    now_ += seconds;
    return seconds;
  }

  double now_ = 0;
};

}  // namespace moesim::test
