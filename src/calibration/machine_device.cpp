#include "calibration/machine_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "calibration/machine_tables.h"
#include "core/units.h"
#include "hardware/kernel_model.h"

namespace moesim {
namespace {

constexpr double kMicro = 1e6;

// How a number came about.
struct Source {
  const char* tag;  // as in device files
  std::string method;
  std::size_t repetitions = 0;  // 0: none are counted
  std::optional<double> spread{};
};

class Document {
 public:
  Document(const MachineMeasurements& measured, const MachineKernels& kernels,
           const MachineFlash& flash, const DeviceText& text)
      : measured_(measured), kernels_(kernels), flash_(flash), text_(text) {}

  CalibratedDevice write() {
    result_.json = {{"schema", 1}, {"name", text_.name}, {"description", text_.description}};
    write_flash();
    write_small_reads();
    write_page_faults();
    write_dram();
    write_cpu();
    write_memory();
    write_notes();
    result_.json["calibration"] = calibration_tables(measured_, kernels_, flash_);
    result_.json["provenance"] = std::move(provenance_);
    return std::move(result_);
  }

 private:
  void explain(const std::string& pointer, const Source& source);
  // A number with its source, and a line of the summary ("": none).
  void set(const std::string& pointer, double value, const Source& source,
           const std::string& unit = "");
  void set_count(const std::string& pointer, std::size_t value, const Source& source);
  void show(const std::string& what, const std::string& value, std::optional<double> spread) {
    result_.lines.push_back({what, value, spread});
  }

  void write_flash();
  void write_command_curve(const Source& fit);
  void write_small_reads();
  void write_page_faults();
  void write_dram();
  void write_cpu();
  void write_kernel_model();
  void write_memory();
  void write_notes();
  // Reads through the page cache say less than what they are taken for.
  [[nodiscard]] const char* read_tag(const char* tag) const {
    return measured_.facts.direct ? tag : "estimate";
  }
  [[nodiscard]] std::string how_read() const {
    return measured_.facts.direct ? "direct" : "buffered";
  }

  const MachineMeasurements& measured_;
  const MachineKernels& kernels_;
  const MachineFlash& flash_;
  const DeviceText& text_;
  CalibratedDevice result_;
  Json provenance_ = Json::object();
};

void Document::explain(const std::string& pointer, const Source& source) {
  std::string text = fmt::format("sim calibrate, {}, {}", text_.date, source.method);
  if (source.repetitions > 0) text += fmt::format(", {} repetitions", source.repetitions);
  Json entry = {{"tag", source.tag}, {"source", text}};
  if (source.spread) entry["spread"] = significant(std::clamp(*source.spread, 0.0, 1.0));
  provenance_[pointer] = entry;
}

void Document::set(const std::string& pointer, double value, const Source& source,
                   const std::string& unit) {
  result_.json[Json::json_pointer(pointer)] = significant(value);
  explain(pointer, source);
  if (!unit.empty()) {
    show(pointer.substr(1), fmt::format("{:.4g} {}", value, unit), source.spread);
  }
}

void Document::set_count(const std::string& pointer, std::size_t value, const Source& source) {
  result_.json[Json::json_pointer(pointer)] = value;
  explain(pointer, source);
  show(pointer.substr(1), std::to_string(value), source.spread);
}

std::size_t least_repetitions(const std::vector<ReadRow>& reads) {
  std::size_t least = reads.empty() ? 0 : reads.front().bytes_per_s.repetitions;
  for (const ReadRow& row : reads) least = std::min(least, row.bytes_per_s.repetitions);
  return least;
}

void Document::write_flash() {
  const FlashSpec& spec = flash_.spec;
  const std::size_t repetitions = least_repetitions(measured_.reads);
  const Source fit{read_tag("derived"),
                   fmt::format("fit of the flash model to {} cells of random {} blocking reads "
                               "(size x lanes, file of {:.0f} MiB; spread: rms error of the fit)",
                               flash_.fitted_cells, how_read(), to_mib(measured_.scratch_bytes)),
                   repetitions, flash_.rms};
  set("/flash/bw_gbps", spec.bw_gbps, fit, "GB/s");
  if (spec.command_curve.empty()) {
    set("/flash/dev_cmd_us", spec.dev_cmd_us, fit, "us");
  } else {
    write_command_curve(fit);
  }
  set("/flash/host_delay_us", spec.host_delay_us, fit, "us");
  if (spec.copy_gbps > 0) set("/flash/copy_gbps", spec.copy_gbps, fit, "GB/s");
  const Source deepest{read_tag("measured"), "the deepest queue that was measured", repetitions};
  set_count("/flash/qd_limit", spec.qd_limit, deepest);
  const Source fewest{read_tag("measured"),
                      "fewest lanes within 3 % of the best, random reads of 256 KiB and more",
                      repetitions};
  set_count("/flash/lanes", spec.lanes, fewest);
  const Source noise{read_tag("measured"),
                     fmt::format("quartiles of the times of {} single reads of 256 KiB and more by "
                                 "one lane, around the median of their repetition",
                                 measured_.read_deviations.size())};
  set("/flash/noise_sigma", spec.noise_sigma, noise, "(log-normal)");
}

void Document::write_command_curve(const Source& fit) {
  Json curve = Json::array();
  std::string shown;
  for (const auto& [depth, us] : flash_.spec.command_curve) {
    curve.push_back({depth, significant(us)});
    shown += fmt::format("{}{:.4g}", shown.empty() ? "" : ", ", us);
  }
  result_.json["flash"]["dev_cmd_us_by_depth"] = curve;
  explain("/flash/dev_cmd_us_by_depth", fit);
  show("flash/dev_cmd_us_by_depth", shown + " us", fit.spread);
}

void Document::write_small_reads() {
  if (flash_.spec.small_read_curve.empty()) return;
  Json curve = Json::array();
  for (const auto& [kib, gbps] : flash_.spec.small_read_curve) {
    curve.push_back({significant(kib), significant(gbps)});
  }
  result_.json["flash"]["small_read_curve_kib_gbps"] = curve;
  explain("/flash/small_read_curve_kib_gbps",
          {read_tag("measured"),
           fmt::format("most bytes per second over the lanes, random {} reads; the last point is "
                       "the rate of the fit, where the curve ends",
                       how_read()),
           least_repetitions(measured_.reads), flash_.rms_all});
  show("flash/small_read_curve_kib_gbps",
       fmt::format("{} points", flash_.spec.small_read_curve.size()), std::nullopt);
}

void Document::write_page_faults() {
  if (!flash_.spec.mmap_fault_us) return;
  const Summary faults = summarise(measured_.fault_s);
  const Summary windows = summarise(measured_.fault_bytes);
  set("/flash/mmap_fault_us", *flash_.spec.mmap_fault_us,
      {"measured", "first touch of a mapped file in order after it was dropped, per window",
       faults.repetitions, faults.spread},
      "us");
  set("/flash/mmap_window_kib", flash_.spec.mmap_window_kib,
      {"measured", "bytes touched per major fault, 128 KiB at most, likewise", windows.repetitions,
       windows.spread},
      "KiB");
}

void Document::write_dram() {
  const ThreadRow* best = &measured_.streams.front();
  for (const ThreadRow& row : measured_.streams) {
    if (row.seconds.median < best->seconds.median) best = &row;
  }
  const auto bytes = static_cast<double>(measured_.facts.stream_bytes);
  const auto source = [&](const ThreadRow& row) {
    return Source{
        "measured",
        fmt::format("streaming read of {:.0f} MiB, threads: {}", bytes / kMiB, row.threads),
        row.seconds.repetitions, row.seconds.spread};
  };
  const double fastest = bytes / best->seconds.median * 1e-9;
  set("/dram/total_gbps", fastest, source(*best), "GB/s");
  set("/dram/cpu_gbps", fastest, source(*best), "GB/s");
  const ThreadRow& one = measured_.streams.front();
  set("/dram/cpu_core_gbps", bytes / one.seconds.median * 1e-9, source(one), "GB/s");
}

void Document::write_cpu() {
  set_count("/cpu/threads", kernels_.threads,
            {"measured", "fewest threads within 2 % of the best over the products of experts"});
  for (const auto& [format, rate] : kernels_.rates) {
    set(fmt::format("/cpu/{}_kernel_gbps", format), rate.gbps,
        {"measured",
         fmt::format("median over {} shapes of experts, weights from memory (spread: over the "
                     "shapes)",
                     rate.shapes),
         rate.repetitions, rate.spread},
        "GB/s");
  }
  Json scaling = Json::array();
  for (const auto& [threads, gbps] : kernels_.scaling) {
    scaling.push_back({threads, significant(gbps)});
  }
  result_.json["cpu"]["thread_scaling"] = scaling;
  explain("/cpu/thread_scaling", {"measured", "geometric mean over the same shapes, f16, GB/s"});
  write_kernel_model();
  const Summary& operators = measured_.operators_s;
  set("/cpu/layer_overhead_us", operators.mean * kMicro,
      {"measured",
       fmt::format(
           "two norms, two additions, the choice of 8 of 64 experts with an LRU cache and the "
           "weighted sum of {} outputs, {} wide, one thread, cold caches; barriers are part "
           "of the products",
           measured_.outputs, measured_.hidden),
       operators.repetitions, operators.spread},
      "us");
  for (const ThreadRow& row : measured_.barriers) {
    show(fmt::format("barrier, threads: {}", row.threads),
         fmt::format("{:.3g} us", row.seconds.median * kMicro), row.seconds.spread);
  }
}

void Document::write_kernel_model() {
  const KernelScores& scores = kernels_.fit.quality.all;
  result_.json["cpu"]["kernel_model"] = kernel_model_json(kernels_.fit.model);
  explain("/cpu/kernel_model",
          {"derived",
           fmt::format("fit to {} samples of {} shapes (spread: median error of shapes held out; "
                       "95th percentile {:.1f} %)",
                       scores.samples, scores.shapes, 100 * scores.model.p95_ape),
           0, scores.model.median_ape});
  show("cpu/kernel_model, held-out error",
       fmt::format("{:.1f} % median, {:.1f} % p95", 100 * scores.model.median_ape,
                   100 * scores.model.p95_ape),
       std::nullopt);
  show("experts, model against measured",
       fmt::format("{:.1f} % median of {}", 100 * kernels_.expert_error, kernels_.experts.size()),
       std::nullopt);
}

void Document::write_memory() {
  const MachineFacts& facts = measured_.facts;
  set("/memory/app_budget_mib", facts.available_mib,
      {"derived", "memory that the system called available before the calibration"}, "MiB");
  set("/memory/page_kib", facts.page_kib, {"measured", "page size of the system"});
  set("/memory/admit_us_per_page", measured_.admit_s.median * kMicro,
      {"measured", "first touch of a page of fresh memory", measured_.admit_s.repetitions,
       measured_.admit_s.spread},
      "us");
}

void Document::write_notes() {
  const MachineFacts& facts = measured_.facts;
  if (!facts.direct) {
    result_.notes.push_back(
        "reads went through the page cache after it was dropped (--buffered): flash values are "
        "estimates");
  }
  if (!facts.uring) result_.notes.push_back("no reads by io_uring: " + facts.no_uring);
  if (!flash_.spec.mmap_fault_us) {
    result_.notes.push_back(
        "no page fault read the mapped file, so mmap_fault_us is left out: something still held "
        "it");
  }
  show("flash fit, rms of all cells",
       fmt::format("{:.1f} % of {} cells", 100 * flash_.rms_all, flash_.table.size()),
       std::nullopt);
}

}  // namespace

CalibratedDevice calibrated_device(const MachineMeasurements& measured,
                                   const MachineKernels& kernels, const MachineFlash& flash,
                                   const DeviceText& text) {
  return Document(measured, kernels, flash, text).write();
}

}  // namespace moesim
