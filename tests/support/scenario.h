// A small model, device and trace as one configuration, for tests of whole runs.
#pragma once

#include <memory>
#include <string>

#include "api/run.h"
#include "config/json_file.h"
#include "support/testing.h"
#include "trace/trace_writer.h"

namespace moesim::test {

// Random logits with some locality: experts of a segment of 8 tokens get a common offset.
TraceData random_logits(const RoutingShape& shape, std::size_t k, std::uint64_t seed);

class Scenario {
 public:
  // 4 MoE layers, 16 experts, k = 4; writes the trace into a folder of its own.
  explicit Scenario(std::size_t tokens = 64, std::uint64_t seed = 1);
  explicit Scenario(const TraceData& trace);

  // Change it before the run.
  Json config;

  [[nodiscard]] std::unique_ptr<RunPlan> plan() const;
  [[nodiscard]] RunReport run() const;
  [[nodiscard]] ConfigText text() const;
  [[nodiscard]] std::filesystem::path folder() const { return folder_->path(); }

 private:
  std::shared_ptr<TemporaryFolder> folder_ = std::make_shared<TemporaryFolder>();
};

// The inline model and device that a Scenario has.
Json scenario_model();
Json scenario_device();

}  // namespace moesim::test
