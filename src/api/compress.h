// `sim compress` as a function: MC-MoE's mixed-precision allocation (PMQ) for the routing and the
// model of a run's configuration.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "api/run.h"
#include "compression/bit_allocation.h"
#include "compression/compressed_size.h"

namespace moesim {

struct CompressOptions {
  double mean_bits = 2;  // B: per expert weight, scales left out
  // One budget for all experts of all layers instead of one per layer. Minimum counts then hold
  // over all of them too.
  bool global = false;
  BudgetRow row = BudgetRow::kEqual;
  std::vector<std::uint32_t> bit_set{1, 2, 3};
  // [bit_set]; empty: one expert of each bit-width but the smallest, as published.
  std::vector<std::uint32_t> min_counts;
  std::array<double, 3> exponents{1, 1.5, 1};  // alpha, beta, gamma
  std::string errors_path;                     // "": the stand-in
  std::vector<double> layer_scales;            // [layers], multiply the errors; empty: all 1
  SizeOptions size;
};

// Throws UserError, naming the option, for what is out of range whatever the configuration.
void check_options(const CompressOptions& options);

struct CompressReport {
  Json document;                  // moesim.allocation/1 (docs/compression.md)
  std::vector<std::string> text;  // a summary for a person, one line each
};

// A weights.allocation of the configuration is left out of account, so that it may name the file
// that is about to be written. Throws UserError: options out of range, a budget that cannot be met,
// and what plan_run() throws.
CompressReport compress(const ConfigText& config, const CompressOptions& options);

}  // namespace moesim
