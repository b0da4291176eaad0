// The routing of a measured row: its own recording where there is one, else a synthetic one whose
// locality is set so that the row's bytes per token come out.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "calibration/targets.h"
#include "config/json_file.h"

namespace moesim {

struct RowTrace {
  std::string file;     // in the folder of the traces
  std::string standin;  // what stands in for the row's own routing; "" where it is its own
  std::optional<double> noise;
  bool meets_bytes = true;  // false: no routing reads as few bytes as the row did
};

class TargetTraces {
 public:
  // Of a routing of which nothing is known.
  static constexpr double kUsualNoise = 0.8;
  // In the folder; that of one row at a time.
  static constexpr const char* kFile = "routing.safetensors";

  // `folder`: where traces are written. `recordings`: what route_trace is relative to.
  TargetTraces(std::filesystem::path folder, std::filesystem::path recordings)
      : folder_(std::move(folder)), recordings_(std::move(recordings)) {}

  // Own recording, imported. Throws UnsupportedRow where the file is not there, UserError for a
  // defect of it.
  RowTrace recorded(const TargetRow& row);
  // Routing of which only the shape matters, because every expert is read.
  RowTrace any(const TargetRow& row);
  // The same with the given noise, taken over from the row `from`.
  RowTrace like(const TargetRow& row, double noise, const std::string& from);
  // Conditioned on the measured bytes, to a thousandth: `config` is the row's and reads the trace
  // kFile; without a device the demand misses are counted, with one what a run of it reads, ahead
  // or not. Where even the least noise reads more it is that one (not where experts are dropped).
  // Throws UnsupportedRow where no noise gives these bytes.
  RowTrace conditioned(const TargetRow& row, const Json& config);
  // The same for rows that drop experts, by the temperature of the router at the given noise: the
  // selection stays, weights get more equal. Where even the least temperature reads more it is that
  // one, or the least noise if that reads less. Throws UnsupportedRow where no temperature gives
  // these bytes.
  RowTrace softened(const TargetRow& row, const Json& config, double noise);

  // Bytes of experts that the row read per token, padding of O_DIRECT taken off; none where that
  // was not recorded.
  static std::optional<double> measured_bytes(const TargetRow& row);

 private:
  struct Knobs {
    double noise = kUsualNoise;
    double temperature = 1;
    std::optional<double> reads;  // bytes a token, where they are not the measured ones
  };
  [[nodiscard]] Knobs fit_noise(const TargetRow& row, const Json& config) const;
  [[nodiscard]] Knobs fit_temperature(const TargetRow& row, const Json& config, double noise) const;
  RowTrace write_conditioned(const TargetRow& row, const Knobs& knobs) const;
  void write_synthetic(const TargetRow& row, const Knobs& knobs) const;

  std::filesystem::path folder_;
  std::filesystem::path recordings_;
  std::map<std::string, Knobs> known_;  // by what decides it
};

// Bytes that O_DIRECT reads of one expert beside its own; 0 where it lies aligned in one piece.
double padding_bytes(const TargetRow& row);

}  // namespace moesim
