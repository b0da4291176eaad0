// A result with all that is needed to understand and repeat it, and the forms in which it is
// written: JSON for scripts, a summary for a person, one row per token.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "config/json_file.h"
#include "engine/run_plan.h"
#include "metrics/run_result.h"

namespace moesim {

// What a summary says about the run beside its numbers.
struct RunFacts {
  Json config;  // resolved
  std::string trace_path;
  std::string trace_model;       // recorded on; "" when unknown
  std::string trace_provenance;  // "" when unknown
  std::string trace_form;        // "full router logits" or "top-8 ids"
  std::string model;             // sizes are taken from; "" where there is none
  std::string device;            // "" where there is none
  std::string device_tags;       // "41 numbers: 12 measured, ..."
  double expert_mib = 0;         // one expert, mean over layers; 0 when unknown
  double expert_bits = 0;        // 0: sizes as recorded in the trace
  std::uint64_t layers = 0;
  std::uint64_t experts = 0;
  std::uint64_t k = 0;
  double cache_mib = 0;  // 0 when unknown
  double all_experts_mib = 0;
  double cached_fraction = 0;  // of the routed experts, by bytes or by number
  // Bytes of the smallest and the largest expert, 0 when unknown; true where each has bits of its
  // own (weights.allocation) and expert_bits is their mean, scales included.
  std::uint64_t smallest_expert = 0;
  std::uint64_t largest_expert = 0;
  bool allocated = false;
};

RunFacts describe_run(const RunPlan& plan);

struct RunReport {
  struct Input {
    std::string path;  // as written
    std::string sha256;
  };
  RunFacts facts;
  std::vector<Input> inputs;
  RunResult result;
};

// The result document (contract, section 4). What is unknown is null.
Json result_json(const RunReport& report);
// Its blocks "program" and "inputs".
Json program_json();
Json inputs_json(const std::vector<RunReport::Input>& inputs);
// The summary that `sim run` prints.
void write_summary(const RunReport& report, std::ostream& out);
// token,sequence,position,wall_ms,...: one row per measured token.
void write_tokens_csv(const RunResult& result, std::ostream& out);

}  // namespace moesim
