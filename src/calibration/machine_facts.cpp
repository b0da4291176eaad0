#include "calibration/machine_facts.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <thread>

#include "core/units.h"
#include "kernels/simd_target.h"
#include "kernels/thread_team.h"

#ifdef __linux__
#include <sched.h>
#endif

namespace moesim {
namespace {

std::size_t usable_cores() {
  std::size_t cores = std::max<std::size_t>(std::thread::hardware_concurrency(), 1);
#ifdef __linux__
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    cores = std::max<std::size_t>(static_cast<std::size_t>(CPU_COUNT(&allowed)), 1);
  }
#endif
  return std::min(cores, ThreadTeam::kMaxThreads);
}

// MemAvailable of /proc/meminfo, KiB there; where there is none, what is free.
double system_available_mib() {
  std::ifstream file("/proc/meminfo");
  for (std::string line; std::getline(file, line);) {
    const std::string key = "MemAvailable:";
    if (line.starts_with(key)) return std::stod(line.substr(key.size())) / 1024;
  }
#ifdef _SC_AVPHYS_PAGES
  return static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) *
         static_cast<double>(sysconf(_SC_PAGESIZE)) / static_cast<double>(kMiB);
#else
  return 0;
#endif
}

// A number that a file consists of; `none` where there is no such file or number ("max").
double number_in(const char* path, double none) {
  std::ifstream file(path);
  double value = none;
  return file >> value ? value : none;
}

// What a container is allowed, where that is less (control groups, version 2).
double available_mib() {
  const double system = system_available_mib();
  const double limit = number_in("/sys/fs/cgroup/memory.max", -1);
  if (limit <= 0) return system;
  const double used = number_in("/sys/fs/cgroup/memory.current", 0);
  return std::min(system, std::max(0.0, limit - used) / static_cast<double>(kMiB));
}

}  // namespace

// Linux tells the part that a core has to do with; glibc adds up all of a processor, also what a
// virtual machine has no part in.
std::uint64_t last_level_cache_bytes() {
  constexpr std::uint64_t kUnknown = std::uint64_t{32} << 20;
  double most_kib = 0;
  for (int level = 0; level < 5; ++level) {  // "32768K"; a missing one ends nothing
    const std::string path =
        "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size";
    most_kib = std::max(most_kib, number_in(path.c_str(), 0));
  }
#ifdef _SC_LEVEL3_CACHE_SIZE
  if (most_kib == 0) most_kib = static_cast<double>(sysconf(_SC_LEVEL3_CACHE_SIZE)) / 1024;
#endif
  return most_kib > 0 ? static_cast<std::uint64_t>(most_kib * 1024) : kUnknown;
}

MachineFacts machine_facts() {
  MachineFacts facts;
  facts.cores = usable_cores();
  facts.simd = simd_target();
  facts.available_mib = available_mib();
  facts.page_kib = static_cast<double>(sysconf(_SC_PAGESIZE)) / 1024;
  return facts;
}

}  // namespace moesim
