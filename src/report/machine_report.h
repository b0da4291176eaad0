// A real run beside its simulation, for scripts and for a person.
#pragma once

#include <iosfwd>

#include "calibration/machine_validation.h"
#include "config/json_file.h"
#include "report/run_report.h"

namespace moesim {

struct MachineReport {
  RunFacts facts;
  std::vector<RunReport::Input> inputs;
  MachineValidation validation;
};

// The document `moesim.validation/1` of `sim validate --config` (contract, section 4).
Json machine_json(const MachineReport& report);
// What the command prints.
void write_machine_table(const MachineReport& report, std::ostream& out);

}  // namespace moesim
