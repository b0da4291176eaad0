#include "calibration/engine_rows.h"

#include <fmt/format.h>

#include <cmath>

#include "calibration/flash_loop.h"
#include "config/json_file.h"
#include "config/section.h"

namespace moesim {
namespace {

constexpr std::uint64_t kMost = 4096;

EngineRow::Layers read_layers(Section section) {
  EngineRow::Layers layers;
  layers.count = section.integer_or("count", 1, 1, kMost);
  const std::vector<double> reads = section.numbers("reads", {1.0, 1e12});
  if (reads.empty())
    throw section.error("reads", "expected the bytes of at least one read, got []");
  layers.reads.reserve(reads.size());
  for (const double bytes : reads) {
    layers.reads.push_back(static_cast<std::uint64_t>(std::llround(bytes)));
  }
  section.reject_unread_keys();
  return layers;
}

EngineRow read_row(Section section) {
  EngineRow row;
  row.name = section.string("name");
  row.lanes = section.integer("lanes", 1, kMost);
  row.experts_per_token = section.integer("experts_per_token", 1, kMost);
  row.read_fraction = section.number_or("read_fraction", 1, {0.0, 1.0, true});
  row.io_ms = section.number("io_ms", kPositive);
  row.bounce = section.boolean_or("bounce", false);
  row.clock = section.number_or("clock", 1, kPositive);
  const Json& layers = section.raw("layers");
  if (!layers.is_array() || layers.empty()) {
    throw section.error("layers", "expected an array of {count, reads}, got " + layers.dump());
  }
  row.layers.reserve(layers.size());
  for (std::size_t i = 0; i < layers.size(); ++i) {
    row.layers.push_back(read_layers(
        Section(layers[i], section.file(), fmt::format("{}/layers/{}", section.pointer(), i))));
  }
  section.reject_unread_keys();
  return row;
}

// Of one layer. `loop` is idle before and after.
double expected_ms(FlashLoop& loop, const EngineRow& row, const EngineRow::Layers& layers) {
  const auto k = static_cast<double>(row.experts_per_token);
  std::vector<std::uint64_t> reads;
  reads.reserve(layers.reads.size() * row.experts_per_token);
  double sum = 0;
  double ways = 1;  // to choose m of k
  for (std::size_t missing = 1; missing <= row.experts_per_token; ++missing) {
    const auto m = static_cast<double>(missing);
    reads.insert(reads.end(), layers.reads.begin(), layers.reads.end());
    ways *= (k - m + 1) / m;
    const double chance =
        ways * std::pow(row.read_fraction, m) * std::pow(1 - row.read_fraction, k - m);
    if (chance > 0) sum += chance * to_ms(loop.drain(reads));
  }
  return sum;
}

}  // namespace

std::vector<EngineRow> read_engine_rows(const std::filesystem::path& path,
                                        const std::string& shown) {
  const Json json = read_json_file(path, shown);
  if (!json.is_array() || json.empty()) {
    throw user_error(shown, "expected an array of rows, got " + json.dump());
  }
  std::vector<EngineRow> rows;
  rows.reserve(json.size());
  for (std::size_t i = 0; i < json.size(); ++i) {
    rows.push_back(read_row(Section(json[i], shown, fmt::format("/{}", i))));
  }
  return rows;
}

double engine_io_ms(const FlashSpec& spec, const EngineRow& row) {
  FlashSpec used = spec;
  if (!row.bounce) used.bounce_gbps = 0;
  FlashLoop loop(used, row.lanes);
  loop.device().set_clock(row.clock);
  double total = 0;
  for (const EngineRow::Layers& layers : row.layers) {
    total += static_cast<double>(layers.count) * expected_ms(loop, row, layers);
  }
  return total;
}

}  // namespace moesim
