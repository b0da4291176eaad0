// The same decode for real and simulated, on this machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "report/machine_report.h"

namespace moesim {

struct ValidateMachineOptions {
  std::string config;
  std::vector<std::string> overrides;  // as sim run --set
  std::string device;                  // file or built-in name; "": what the configuration says
  std::filesystem::path dir;           // where the file of experts is written, and removed
  std::optional<std::filesystem::path> store;  // use this one, written if it is not there; kept
  std::size_t repeats = 3;                     // real runs
  // Tokens whose outputs are compared with the reference's, from the first, warm-up included; those
  // of all tokens are compared between the real runs. None: all.
  std::optional<std::size_t> reference_tokens;
  double max_disk_gib = 8;
  double max_memory_gib = 4;
  bool buffered = false;  // read through the page cache
  std::uint64_t seed = 1;
  // Told what is being done, and how much of it: 0 to 1.
  std::function<void(const std::string&, double)> progress;
};

// Throws UserError for what the user can mend: the configuration, a file system without direct
// reads, too little disk or memory, a program without kernels.
MachineReport validate_machine(const ValidateMachineOptions& options);

}  // namespace moesim
