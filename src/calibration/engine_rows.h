// What an engine that reads all misses of a layer and then computes spent on reading, per token,
// and what the flash model says of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "hardware/device.h"

namespace moesim {

struct EngineRow {
  struct Layers {
    std::size_t count = 1;             // layers of this kind
    std::vector<std::uint64_t> reads;  // bytes of each read of one expert, in the order of issue
  };

  std::string name;
  std::size_t lanes = 1;
  std::vector<Layers> layers;
  std::size_t experts_per_token = 1;  // of a layer, k
  double read_fraction = 1;           // of the routed bytes, those that were read
  double io_ms = 0;                   // per token, measured
  bool bounce = false;                // reads are copied out of a bounce buffer
  double clock = 1;                   // over the one at which host delay and copy hold
};

// Reads a JSON array of objects with the keys name, lanes, layers ([{count, reads}]),
// experts_per_token, read_fraction, io_ms, bounce and clock; read_fraction, bounce and clock may be
// absent. `shown` is how messages call the file. Throws UserError.
std::vector<EngineRow> read_engine_rows(const std::filesystem::path& path,
                                        const std::string& shown);

// Milliseconds per token: summed over layers, the expectation of the time in which the lanes drain
// the reads of m experts that are queued at once, where m is binomial (k experts, each read with
// the probability read_fraction). Left out: the memory bus, and that misses come in clusters.
double engine_io_ms(const FlashSpec& spec, const EngineRow& row);

}  // namespace moesim
