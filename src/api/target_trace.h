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
};

class TargetTraces {
 public:
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
  // Conditioned on the measured bytes, to a thousandth: `config` is the row's, without a device,
  // and reads the trace kFile. Throws UnsupportedRow where no noise gives these bytes.
  RowTrace conditioned(const TargetRow& row, const Json& config);

  // Bytes of experts that the row read per token, padding of O_DIRECT taken off; none where that
  // was not recorded.
  static std::optional<double> measured_bytes(const TargetRow& row);

 private:
  void write_synthetic(const TargetRow& row, double noise) const;

  std::filesystem::path folder_;
  std::filesystem::path recordings_;
  std::map<std::string, double> known_noise_;  // by what decides it
};

// Bytes that O_DIRECT reads of one expert beside its own; 0 where it lies aligned in one piece.
double padding_bytes(const TargetRow& row);

}  // namespace moesim
