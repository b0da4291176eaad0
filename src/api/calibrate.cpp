#include "api/calibrate.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ostream>

#include "calibration/machine_local.h"
#include "core/errors.h"
#include "core/files.h"
#include "hardware/device.h"
#include "kernels/simd_target.h"

namespace moesim {
namespace {

constexpr double kGiB = 1024.0 * 1024 * 1024;
constexpr double kFullDiskGib = 1;
constexpr double kQuickDiskGib = 0.25;

// Below this no read of an expert's size finds room.
constexpr NumberRange kDiskGib{0.02, 8};
constexpr NumberRange kMemoryGib{0.1, 1024};
constexpr NumberRange kBudget{0.1, 3600};

void require_in(const char* option, const NumberRange& range, double value) {
  if (range.contains(value)) return;
  throw user_error(option, fmt::format("expected {}, got {}", range.text(), value));
}

std::filesystem::path folder_of(const std::filesystem::path& file) {
  const std::filesystem::path parent = file.parent_path();
  return parent.empty() ? std::filesystem::path(".") : parent;
}

// Minutes of measuring are not to end with this.
void require_writable(const std::filesystem::path& out) {
  const std::filesystem::path folder = folder_of(out);
  if (!std::filesystem::is_directory(folder)) {
    throw user_error(out.string(), "no such folder to write the device file to");
  }
  if (std::filesystem::is_directory(out)) {
    throw user_error(out.string(), "expected a file to write the device to, got a folder");
  }
  const std::filesystem::path& checked = std::filesystem::exists(out) ? out : folder;
  if (access(checked.c_str(), W_OK) != 0) {
    throw user_error(out.string(), "the device file may not be written here");
  }
}

LocalMachineOptions machine_options(const CalibrateOptions& options) {
  const double disk_gib = options.max_disk_gib != 0 ? options.max_disk_gib
                          : options.quick           ? kQuickDiskGib
                                                    : kFullDiskGib;
  require_in("--max-disk-gib", kDiskGib, disk_gib);
  require_in("--max-memory-gib", kMemoryGib, options.max_memory_gib);
  if (options.budget_s != 0) require_in("--budget-s", kBudget, options.budget_s);
  LocalMachineOptions machine;
  machine.folder = options.dir.empty() ? folder_of(options.out) : options.dir;
  machine.disk_bytes = static_cast<std::uint64_t>(disk_gib * kGiB);
  machine.memory_bytes = static_cast<std::uint64_t>(options.max_memory_gib * kGiB);
  machine.direct = !options.buffered;
  return machine;
}

std::string description_of(const MachineFacts& facts) {
  return fmt::format("measured by sim calibrate: {} core{}, {}", facts.cores,
                     facts.cores == 1 ? "" : "s", facts.simd);
}

}  // namespace

CalibratedDevice calibrate(MachineProbe& machine, const CalibrationPlan& plan,
                           const DeviceText& text, const ProgressFunction& progress) {
  const MachineMeasurements measured = measure_machine(machine, plan, progress);
  CalibratedDevice device =
      calibrated_device(measured, fit_machine_kernels(measured), fit_machine_flash(measured), text);
  read_device(Section(device.json, "the calibrated device", ""));
  return device;
}

CalibratedDevice calibrate(const CalibrateOptions& options, const ProgressFunction& progress) {
  const KernelSupport kernels = kernel_support();
  if (!kernels.available) throw user_error("calibrate", kernels.reason);
  const LocalMachineOptions on_machine = machine_options(options);
  require_writable(options.out);
  require_space(on_machine.folder, free_bytes_for_scratch(on_machine.folder),
                on_machine.disk_bytes);
  LocalMachine machine(on_machine);
  CalibratedDevice device =
      calibrate(machine, calibration_plan(options.quick, options.budget_s),
                {options.name, description_of(machine.facts()), options.date}, progress);
  write_file_atomically(options.out,
                        [&](std::ostream& out) { out << device.json.dump(1) << "\n"; });
  return device;
}

}  // namespace moesim
