#include "api/validate_machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <system_error>
#include <utility>

#include "api/run.h"
#include "calibration/core_split.h"
#include "calibration/machine_state.h"
#include "calibration/real_decode.h"
#include "calibration/real_run.h"
#include "core/errors.h"
#include "core/files.h"
#include "kernels/simd_target.h"
#include "kernels/store/mapped_store.h"
#include "metrics/run_metrics.h"

namespace moesim {
namespace {

namespace fs = std::filesystem;

constexpr double kGiB = 1024.0 * static_cast<double>(kMiB);

// The file of experts: one that stays, or one that goes with this object.
class StoreFile {
 public:
  StoreFile(const ValidateMachineOptions& options, const StoreShape& shape,
            const std::function<void(std::uint64_t, std::uint64_t)>& progress)
      : path_(options.store.value_or(options.dir /
                                     fmt::format("moesim-experts-{}.store", ::getpid()))),
        stays_(options.store.has_value()) {
    std::error_code error;
    if (!stays_ || !fs::exists(path_, error)) write_expert_store(path_, shape, progress);
    if (ExpertStore(path_).shape() != shape) {
      throw user_error(path_.string(),
                       "expected the experts of this configuration and seed, got those of another");
    }
    if (!stays_) lose_name();
  }
  ~StoreFile() {
    if (file_ >= 0) close(file_);
    std::error_code ignored;
    if (!stays_) fs::remove(path_, ignored);
  }
  StoreFile(const StoreFile&) = delete;
  StoreFile& operator=(const StoreFile&) = delete;

  [[nodiscard]] const fs::path& path() const { return path_; }
  // Takes it out of the page cache: what wrote or checked it has left it there.
  void drop_cached() const { MappedStore(path_).drop(0, fs::file_size(path_)); }

 private:
  // From here on nothing is left of it, however this process ends.
  void lose_name() {
    file_ = open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_ < 0) return;  // The destructor removes it.
    std::error_code error;
    const fs::path named = path_;
    path_ = fmt::format("/proc/self/fd/{}", file_);
    if (!fs::is_regular_file(path_, error)) {
      path_ = named;  // No /proc.
      return;
    }
    fs::remove(named, error);
  }

  fs::path path_;
  bool stays_;
  int file_ = -1;  // open while the file has no name
};

class MachineValidator {
 public:
  explicit MachineValidator(const ValidateMachineOptions& options) : options_(options) {}

  MachineReport run() {
    simulate();
    check_limits();
    const StoreFile file(options_, store_shape(*plan_, options_.seed),
                         [this](std::uint64_t done, std::uint64_t all) {
                           tell("writing experts",
                                static_cast<double>(done) / static_cast<double>(all));
                         });
    choose_reader(file.path());
    const ExpertStore store(file.path());
    const DenseWeights dense(*plan_->config().model, *plan_->costs(), dense_format(*plan_),
                             longest_context(*plan_));
    decode_all(file, store, dense);
    tell("reference", 0);
    const auto plan = plan_run(config_);
    compare_outputs(reference_outputs(
        *plan, dense, store, options_.reference_tokens.value_or(plan->schedule().passes.size())));
    file.drop_cached();
    conclude(store);
    return std::move(report_);
  }

 private:
  void tell(const std::string& what, double share) const {
    if (options_.progress) options_.progress(what, share);
  }

  // A path on the command line is relative to the working directory, one in a file to the file.
  static std::string device_reference(const std::string& device) {
    const bool is_name = device.find('/') == std::string::npos && !device.ends_with(".json");
    return is_name ? device : fs::absolute(device).string();
  }

  void simulate() {
    const KernelSupport support = kernel_support();
    if (!support.available) throw user_error("sim validate", support.reason);
    config_ = load_config(options_.config, options_.overrides);
    if (!options_.device.empty()) config_.root["device"] = device_reference(options_.device);
    plan_ = plan_run(config_);
    require_real(*plan_);
    tell("simulation", 0);
    ExecuteOptions execute_options;
    execute_options.keep_rows = true;
    execute_options.with_bounds = false;
    report_.validation.simulated = execute(*plan_, execute_options);
    report_.facts = describe_run(*plan_);
    const RunConfig& config = plan_->config();
    report_.inputs.push_back({config_.shown, sha256_of_file(config_.shown)});
    report_.inputs.push_back({config.trace_shown, sha256_of_file(config.trace_path)});
    for (const RunConfig::Input& input : config.inputs) {
      report_.inputs.push_back({input.shown, sha256_of_file(input.path)});
    }
  }

  void check_limits() {
    const RealMemory memory = memory_needed(*plan_);
    report_.validation.dense_mib = to_mib(memory.dense);
    report_.validation.experts_mib = to_mib(memory.experts);
    limit("memory", "--max-memory-gib", memory.total() + kStateMemory, options_.max_memory_gib);
    limit("disk", "--max-disk-gib", store_bytes(store_shape(*plan_, options_.seed)),
          options_.max_disk_gib);
  }

  static void limit(const char* what, const char* option, std::uint64_t bytes, double most_gib) {
    const double gib = static_cast<double>(bytes) / kGiB;
    if (gib <= most_gib) return;
    throw user_error(option, fmt::format("expected at least {:.2f} GiB of {}, which this "
                                         "configuration needs, got {}",
                                         gib, what, most_gib));
  }

  void choose_reader(const fs::path& path) {
    const ExecutionOptions& execution = plan_->config().execution;
    if (execution.read_path == ReadPath::kMmap) {
      report_.validation.reader = "a memory map";
      return;
    }
    const bool async = plan_->config().device->flash->submission == Submission::kAsync;
    if (async && !uring_support().available) throw user_error("io_uring", uring_support().reason);
    report_.validation.reader =
        fmt::format("{} {}, {}", execution.lanes, async ? "commands in io_uring" : "blocking lanes",
                    options_.buffered ? "buffered" : "direct");
    if (options_.buffered) return;
    const ReadSupport direct = direct_support(path);
    if (direct.available) return;
    throw user_error(path.string(),
                     direct.reason + " (--buffered reads through the page cache instead)");
  }

  // `cores`: where lanes have some of their own, the thread that computes does too.
  std::unique_ptr<StoreReader> make_reader(const fs::path& path, const CoreSplit& cores) const {
    const ExecutionOptions& execution = plan_->config().execution;
    if (execution.read_path == ReadPath::kMmap) return nullptr;
    ReaderOptions reader;
    if (options_.buffered) reader.access = ReadAccess::kBuffered;
    if (cores.is_split()) reader.spin = kReadSpin;
    const bool async = plan_->config().device->flash->submission == Submission::kAsync;
    return async ? make_uring_reader(path, execution.lanes, reader)
                 : make_lane_reader(path, execution.lanes, reader);
  }

  // Each run has a cache of its own, empty as the configuration says; weights outside the experts
  // stay.
  void decode_all(const StoreFile& file, const ExpertStore& store, const DenseWeights& dense) {
    const CoreSplit cores(plan_->config().execution.threads);
    cores.compute_from_here();
    ThreadTeam team(plan_->config().execution.threads);
    file.drop_cached();
    note_state(store, team, cores);
    for (std::size_t i = 0; i < options_.repeats; ++i) {
      tell(fmt::format("real run {} of {}", i + 1, options_.repeats), 0);
      const auto plan = plan_run(config_);
      const ExecutionOptions& execution = plan->config().execution;
      cores.read_from_here();
      auto reader = make_reader(store.path(), cores);
      cores.compute_from_here();
      RealExperts experts(store, std::move(reader),
                          {execution.layout, execution.read_path, slots_needed(*plan)});
      RealDecode decode({plan.get(), &dense, &experts, &team});
      RunMetrics metrics(*plan, true);
      decode.run(metrics);
      runs_.push_back(metrics.result());
      outputs_.push_back(decode.outputs());
      products_.push_back(decode.product_times());
      file.drop_cached();  // page faults have left experts there
      note_state(store, team, cores);
    }
  }

  // Where reads go past the page cache: else they say nothing of the device.
  void note_state(const ExpertStore& store, ThreadTeam& team, const CoreSplit& cores) {
    const RunConfig& config = plan_->config();
    if (options_.buffered || config.execution.read_path == ReadPath::kMmap) return;
    MachineValidation& validation = report_.validation;
    const std::uint64_t bytes = store_bytes(store.shape());
    validation.expected_state = expected_state(*config.device, team.size(), bytes);
    const PageMemory memory(kStateMemory);
    cores.read_from_here();
    ReaderOptions alone;
    if (cores.is_split()) alone.spin = kReadSpin;
    const auto reader = make_lane_reader(store.path(), 1, alone);
    cores.compute_from_here();
    validation.states.push_back(measure_state(memory, team, *reader, bytes));
  }

  // `reference`: of the first tokens. The real runs must agree on all of them.
  void compare_outputs(const std::vector<std::uint64_t>& reference) {
    MachineValidation& validation = report_.validation;
    validation.reference_tokens = reference.size();
    validation.outputs_match = true;
    for (const std::uint64_t output : outputs_.front()) {
      validation.outputs_checksum = (validation.outputs_checksum * 0x100000001B3U) ^ output;
    }
    compare_run(0, reference);
    for (std::size_t run = 1; run < outputs_.size(); ++run) compare_run(run, outputs_.front());
  }

  void compare_run(std::size_t run, const std::vector<std::uint64_t>& expected) {
    MachineValidation& validation = report_.validation;
    const auto differs = std::mismatch(expected.begin(), expected.end(), outputs_[run].begin());
    if (differs.first == expected.end() || !validation.outputs_match) return;
    validation.outputs_match = false;
    validation.output_difference = fmt::format("real run {}, token {} of the run", run + 1,
                                               differs.first - expected.begin() + 1);
  }

  void conclude(const ExpertStore& store) {
    MachineValidation& validation = report_.validation;
    const std::size_t median = median_run(runs_);
    validation.noise = noise_of(runs_);
    for (const RunResult& run : runs_) {
      validation.real_means_ms.push_back(run.time->tpot_ms.mean);
      if (validation.count_difference.empty()) {
        validation.count_difference = first_difference(run, validation.simulated);
      }
    }
    validation.error = compare_times(runs_[median], validation.simulated);
    validation.products = products_[median];
    validation.real = std::move(runs_[median]);
    validation.simd = simd_target();
    validation.store_bytes = store_bytes(store.shape());
  }

  const ValidateMachineOptions& options_;
  ConfigText config_;
  std::unique_ptr<RunPlan> plan_;  // simulated; its sizes and costs serve the real runs too
  std::vector<RunResult> runs_;
  std::vector<std::vector<std::uint64_t>> outputs_;
  std::vector<ProductTimes> products_;
  MachineReport report_;
};

}  // namespace

MachineReport validate_machine(const ValidateMachineOptions& options) {
  return MachineValidator(options).run();
}

}  // namespace moesim
