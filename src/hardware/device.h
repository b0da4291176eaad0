// A device as data: the keys of a device file (docs/devices.md), each with its unit in the name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/section.h"
#include "core/units.h"
#include "hardware/compute_spec.h"
#include "hardware/thermal.h"
#include "hardware/tier.h"

namespace moesim {

// How reads are handed to the device: blocking, one thread per lane, or by one thread that queues
// commands one after the other (AIO, io_uring).
enum class Submission : std::uint8_t { kThreads, kAsync };

struct FlashSpec {
  double bw_gbps = 0;     // the device's own rate, shared by all reads
  double dev_cmd_us = 0;  // device time per read beside its bytes
  // {reads in flight, us}, rising: dev_cmd_us of a read by how many are in flight when its service
  // begins, straight between the points; empty: dev_cmd_us whatever the number.
  std::vector<std::pair<double, double>> command_curve;
  double host_delay_us = 0;   // per read, on the host, parallel across lanes
  double copy_gbps = 0;       // host time per byte before the device: pinning, mapping; 0 = none
  std::size_t qd_limit = 32;  // reads outstanding at once
  std::size_t lanes = 1;      // lanes that an engine uses unless the configuration says otherwise
  double noise_sigma = 0;     // log-normal spread of the service time; used where noise is on
  double hot_derate = 1;      // of bw_gbps, while the flash is hot
  double bounce_gbps = 0;     // copy out of a bounce buffer after the read, per lane; 0 = none
  Submission submission = Submission::kThreads;
  double max_cmd_kib = 0;          // a longer read is several commands; 0 = never
  double cycles_per_cmd = 0;       // of the core that submits, where it is asynchronous
  double issue_clock_ghz = 0;      // of that core: cpu.clock_ghz
  std::size_t queues = 1;          // submission queues; 1 = a single doorbell
  double multi_issuer_derate = 1;  // share kept at 4 KiB where several lanes use a single queue
  std::vector<std::pair<double, double>> small_read_curve;  // {KiB, GB/s}, sizes rising
  std::vector<std::pair<double, double>> range_derate;      // {MiB, factor}, ranges rising
  std::optional<double> mmap_fault_us;  // one major fault through a memory map; none: not known
  double mmap_window_kib = 16;          // what it brings in, readahead included
};

struct DramSpec {
  double total_gbps = 0;     // all agents together; of the memory that the expert cache is in
  double cpu_gbps = 0;       // the CPU cores together
  double cpu_core_gbps = 0;  // one core
  double dma_factor = 1;     // DRAM bytes moved per byte read: 3 bounced; 1 where it is not
};

struct MemorySpec {
  double app_budget_mib = 0;
  // Of what the system calls available, the part that it does not leave to an app.
  std::optional<double> reserve_mib{};
  double page_kib = 4;
  double admit_us_per_page = 0;     // committing a page of an admitted expert, on the compute cores
  double zram_gbps = 0;             // faulting pages back from compressed memory; 0: there is none
  double zram_ratio = 0;            // bytes that a byte takes while it is compressed
  double compress_gbps = 0;         // compressing pages that are stolen
  double direct_reclaim_share = 0;  // of what is stolen, billed to the thread that wants pages
};

struct EnergySpec {
  double flash_j_per_gb = 0;
  double cpu_j_per_gb = 0;   // weight bytes through the cores, DRAM included
  double dram_j_per_gb = 0;  // DMA traffic only
  double platform_w = 0;
};

struct Device {
  std::string name;
  std::string description;
  std::vector<TierSpec> tiers;     // behind the expert cache, nearest first
  std::optional<FlashSpec> flash;  // none: the last tier holds every expert
  DramSpec dram;
  CpuSpec cpu;
  MemorySpec memory;
  std::optional<EnergySpec> energy;
  std::map<std::string, AgentSpec> agents;  // beside the CPU, by name
  std::optional<ThermalSpec> thermal;
  // Rows of measurements (sim validate --targets) that values of this file were fitted to.
  std::vector<std::string> fitted_rows;
  Json provenance;  // {JSON pointer: {"tag", "source", and "spread" where it is stated}}

  // How many of the file's numbers carry each tag: measured, vendor, derived, estimate.
  [[nodiscard]] std::map<std::string, std::size_t> count_tags() const;
};

// Throws UserError with file and pointer; also for a number without provenance, a provenance entry
// that points at nothing and an unknown tag. Keys of the format that this version does not
// simulate (small-read curve) are checked for their type and range all the same.
Device read_device(Section section);

// The weight format that `bits` per weight is stored in, as device files name it: 16 -> "f16",
// 8 to 9 -> "q8", 4 to 5 -> "q4", and so on ("q" and the whole bits).
std::string weight_format(double bits);

}  // namespace moesim
