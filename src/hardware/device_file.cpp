// Reads a device file: types, ranges, defaults, provenance. docs/devices.md is its reference.
#include <fmt/format.h>

#include "hardware/device.h"
#include "hardware/provenance.h"

namespace moesim {
namespace {

// Wide enough for any device and far from where integer rates and times would become 0 or overflow.
constexpr NumberRange kRate{1e-6, 1e6};         // GB/s
constexpr NumberRange kMicroseconds{0.0, 1e9};  // up to 1000 s
constexpr std::uint64_t kMostLanes = 4096;

using Points = std::vector<std::pair<double, double>>;

// An array of pairs, the first numbers above 0 and rising, the second in `range`; `expected` says
// so. Empty where the key is absent.
Points read_points(Section& section, const std::string& key, const NumberRange& range,
                   const std::string& expected) {
  section.accept(key);
  Points points;
  if (!section.has(key)) return points;
  const Json& list = section.raw(key);
  bool right = list.is_array() && !list.empty();
  double last = 0;
  points.reserve(list.size());
  for (std::size_t i = 0; right && i < list.size(); ++i) {
    const Json& point = list[i];
    right = point.is_array() && point.size() == 2 && point[0].is_number() && point[1].is_number() &&
            point[0].get<double>() > last && range.contains(point[1].get<double>());
    if (!right) break;
    last = point[0].get<double>();
    points.emplace_back(last, point[1].get<double>());
  }
  if (!right) throw section.error(key, "expected " + expected + ", got " + list.dump());
  return points;
}

void read_small_reads(Section& section, FlashSpec& flash) {
  constexpr NumberRange kShare{0.0, 1.0, true};
  flash.small_read_curve = read_points(section, "small_read_curve_kib_gbps", kRate,
                                       "[[KiB, GB/s], ...] with rising sizes and rates > 0");
  flash.range_derate = read_points(section, "range_derate", kShare,
                                   "[[MiB, factor], ...] with rising ranges and factors in (0, 1]");
  if (!flash.range_derate.empty() && flash.small_read_curve.empty()) {
    throw section.error("range_derate",
                        "expected none, because there is no small_read_curve_kib_gbps");
  }
  flash.queues = section.integer_or("queues", flash.queues, 1, kMostLanes);
  flash.multi_issuer_derate =
      section.number_or("multi_issuer_derate", flash.multi_issuer_derate, kShare);
}

// `clock_ghz`: of the cores; 0 where the file does not say.
void read_submission(Section& section, double clock_ghz, FlashSpec& flash) {
  const std::string how = section.choice_or("submission", "threads", {"threads", "async"});
  flash.max_cmd_kib = section.number_or("max_cmd_kib", flash.max_cmd_kib, kPositive);
  flash.cycles_per_cmd = section.number_or("cycles_per_cmd", flash.cycles_per_cmd, kNonNegative);
  flash.issue_clock_ghz = clock_ghz;
  if (how == "threads") return;
  flash.submission = Submission::kAsync;
  if (!section.has("cycles_per_cmd") || clock_ghz == 0) {
    throw section.error("submission",
                        "expected threads, because the cost of an asynchronous command needs "
                        "cycles_per_cmd and cpu.clock_ghz");
  }
}

void read_command_curve(Section& section, FlashSpec& flash) {
  const char* const key = "dev_cmd_us_by_depth";
  flash.command_curve = read_points(section, key, kMicroseconds,
                                    "[[reads in flight, us], ...] with rising numbers of reads");
  if (!flash.command_curve.empty() && section.has("dev_cmd_us")) {
    throw section.error("dev_cmd_us", "expected none beside " + std::string(key) + ", got both");
  }
}

FlashSpec read_flash(Section section, double clock_ghz) {
  FlashSpec flash;
  flash.bw_gbps = section.number("bw_gbps", kRate);
  read_command_curve(section, flash);
  flash.dev_cmd_us = section.number_or("dev_cmd_us", flash.dev_cmd_us, kMicroseconds);
  flash.host_delay_us = section.number("host_delay_us", kMicroseconds);
  flash.copy_gbps = section.number_or("copy_gbps", flash.copy_gbps, {0.0, kRate.high});
  flash.bounce_gbps = section.number_or("bounce_gbps", flash.bounce_gbps, {0.0, kRate.high});
  flash.qd_limit = section.integer_or("qd_limit", flash.qd_limit, 1, kMostLanes);
  flash.lanes = section.integer_or("lanes", flash.lanes, 1, kMostLanes);
  flash.noise_sigma = section.number_or("noise_sigma", flash.noise_sigma, kUnitInterval);
  if (flash.lanes > flash.qd_limit) {
    throw section.error("lanes", fmt::format("expected at most qd_limit, which is {}, got {}",
                                             flash.qd_limit, flash.lanes));
  }
  read_submission(section, clock_ghz, flash);
  read_small_reads(section, flash);
  flash.hot_derate = section.number_or("hot_derate", flash.hot_derate, {0.0, 1.0, true});
  if (section.has("mmap_fault_us")) {
    flash.mmap_fault_us = section.number("mmap_fault_us", {0.0, kMicroseconds.high, true});
  }
  section.know("mmap_fault_us");
  flash.mmap_window_kib = section.number_or("mmap_window_kib", flash.mmap_window_kib, kPositive);
  return flash;
}

DramSpec read_dram(Section section) {
  DramSpec dram;
  dram.total_gbps = section.number("total_gbps", kRate);
  dram.cpu_gbps = section.number("cpu_gbps", kRate);
  dram.cpu_core_gbps = section.number_or("cpu_core_gbps", dram.cpu_gbps, kRate);
  dram.dma_factor = section.number_or("dma_factor", dram.dma_factor, {0.0, 100.0});
  return dram;
}

MemorySpec read_memory(Section section) {
  MemorySpec memory;
  memory.app_budget_mib = section.number("app_budget_mib", kPositive);
  section.know("reserve_mib");
  if (section.has("reserve_mib")) {
    memory.reserve_mib = section.number("reserve_mib", kNonNegative);
  }
  memory.page_kib = section.number_or("page_kib", memory.page_kib, kPositive);
  memory.admit_us_per_page =
      section.number_or("admit_us_per_page", memory.admit_us_per_page, kMicroseconds);
  memory.zram_gbps = section.number_or("zram_gbps", memory.zram_gbps, kRate);
  memory.zram_ratio = section.number_or("zram_ratio", memory.zram_ratio, {0.0, 0.99});
  memory.compress_gbps = section.number_or("compress_gbps", memory.zram_gbps, kRate);
  memory.direct_reclaim_share =
      section.number_or("direct_reclaim_share", memory.direct_reclaim_share, kUnitInterval);
  for (const char* key : {"zram_ratio", "compress_gbps", "direct_reclaim_share"}) {
    if (memory.zram_gbps == 0 && section.has(key)) {
      throw section.error(key, "expected zram_gbps beside it, got none");
    }
  }
  return memory;
}

// All or none: a part that is left out would read as free.
EnergySpec read_energy(Section section, bool has_flash) {
  EnergySpec energy;
  if (has_flash) energy.flash_j_per_gb = section.number("flash_j_per_gb", kNonNegative);
  energy.cpu_j_per_gb = section.number("cpu_j_per_gb", kNonNegative);
  energy.dram_j_per_gb = section.number("dram_j_per_gb", kNonNegative);
  energy.platform_w = section.number("platform_w", kNonNegative);
  return energy;
}

// cpu.clock_ghz, which read_cpu() checks; 0 where there is none.
double stated_clock(const Section& device) {
  const Json::json_pointer pointer("/cpu/clock_ghz");
  const Json& json = device.json();
  const bool stated = json.contains(pointer) && json.at(pointer).is_number();
  return stated ? json.at(pointer).get<double>() : 0.0;
}

// Flash is the last resort; a tier that holds everything leaves nothing to read from it.
std::optional<FlashSpec> read_store(Section& device, const std::vector<TierSpec>& tiers) {
  if (tiers.empty() || tiers.back().capacity_mib) {
    return read_flash(device.object("flash"), stated_clock(device));
  }
  device.accept("flash");
  if (!device.has("flash")) return std::nullopt;
  throw device.error("flash", fmt::format("expected none, because the tier {} has no capacity_mib: "
                                          "it holds every expert",
                                          tiers.back().name));
}

std::vector<std::string> read_names(Section& section, const std::string& key) {
  section.know(key);
  if (!section.has(key)) return {};
  const Json& names = section.raw(key);
  const bool right = names.is_array() && std::all_of(names.begin(), names.end(),
                                                     [](const Json& n) { return n.is_string(); });
  if (!right) throw section.error(key, "expected an array of strings, got " + names.dump());
  return names.get<std::vector<std::string>>();
}

}  // namespace

Device read_device(Section section) {
  section.integer_or("schema", 1, 1, 1);
  Device device;
  device.name = section.string("name");
  device.description = section.string_or("description", "");
  device.tiers = read_tiers(section, section.has("energy"));
  device.flash = read_store(section, device.tiers);
  device.dram = read_dram(section.object("dram"));
  device.cpu = read_cpu(section.object("cpu"));
  device.memory = read_memory(section.object("memory"));
  if (const auto energy = section.optional_object("energy")) {
    device.energy = read_energy(*energy, device.flash.has_value());
  }
  device.agents = read_agents(section);
  if (const auto thermal = section.optional_object("thermal")) {
    device.thermal = read_thermal(*thermal);
  }
  device.fitted_rows = read_names(section, "fitted_rows");
  if (auto calibration = section.optional_object("calibration")) calibration->accept_all_keys();
  // A misspelt key is named as such before its number is found to lack an entry.
  section.raw("provenance");
  section.reject_unread_keys();
  device.provenance = resolve_provenance(section);
  section.reject_unread_keys();
  return device;
}

}  // namespace moesim
