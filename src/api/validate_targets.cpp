#include "api/validate_targets.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "api/target_band.h"
#include "api/target_config.h"
#include "api/target_simulation.h"
#include "api/target_trace.h"
#include "calibration/token_table.h"
#include "config/builtin.h"
#include "core/temporary_folder.h"

namespace moesim {
namespace {

const std::vector<std::string>& band_metrics() {
  static const std::vector<std::string> kMetrics = {"tok_s", "wall_ms.mean", "io_ms", "compute_ms"};
  return kMetrics;
}

// Without a cache of any kind, and without dropping any, routing decides only which experts are
// read, not how many.
bool every_expert_is_read(const TargetRow& row) {
  return !row.mmap && row.cache_mib.value_or(0) <= 0 && !drops_experts(row);
}

// Of two positive numbers that both are known of: time a MiB.
std::optional<double> io_ms_per_mib(const Json& numbers) {
  const auto io = metric_of(numbers, "io_ms");
  const auto mib = metric_of(numbers, "mib_per_token");
  return io && mib && *io > 0 && *mib > 0 ? std::optional(*io / *mib) : std::nullopt;
}

Json errors_of(const Json& measured, const Json& simulated) {
  Json errors = target_errors(measured, simulated);
  const auto was = io_ms_per_mib(measured);
  const auto is = io_ms_per_mib(simulated);
  if (was && is) errors["io_ms_per_mib"] = *is / *was - 1;
  return errors;
}

TargetResult not_simulated(const TargetResult& result, const std::string& reason) {
  TargetResult bare;
  bare.row = result.row;
  bare.fitted = result.fitted;
  bare.reason = reason;
  return bare;
}

class Validator {
 public:
  explicit Validator(const ValidateTargetsOptions& options)
      : options_(options),
        targets_(read_targets(options.targets, options.targets)),
        traces_(folder_.path(), recordings()) {
    choose_rows();
    if (!options_.device.empty()) load_device(options_.device, options_.device);
  }

  TargetValidation run() {
    TargetValidation validation;
    validation.targets = options_.targets;
    validation.rows.reserve(chosen_.size());
    for (const TargetRow* row : chosen_) {
      if (options_.progress) options_.progress(validation.rows.size(), chosen_.size(), row->id);
      validation.rows.push_back(simulate(*row));
    }
    for (const auto& [name, device] : devices_) validation.devices.push_back(name);
    validation.contrasts = score_contrasts(chosen_contrasts(), validation.rows);
    validation.summary = summarise(validation.rows, validation.contrasts);
    return validation;
  }

 private:
  [[nodiscard]] std::filesystem::path folder_of_targets() const {
    return std::filesystem::path(options_.targets).parent_path();
  }
  [[nodiscard]] std::filesystem::path recordings() const {
    return options_.traces.value_or(folder_of_targets() / ".." / "raw_traces");
  }

  [[nodiscard]] bool is_chosen(const std::string& id) const {
    return std::any_of(chosen_.begin(), chosen_.end(),
                       [&](const TargetRow* row) { return row->id == id; });
  }

  void choose_rows() {
    chosen_.reserve(targets_.rows.size());
    if (options_.rows.empty()) {
      for (const TargetRow& row : targets_.rows) chosen_.push_back(&row);
    }
    for (const std::string& id : options_.rows) {
      const auto found = std::find_if(targets_.rows.begin(), targets_.rows.end(),
                                      [&](const TargetRow& row) { return row.id == id; });
      if (found == targets_.rows.end()) {
        throw user_error(options_.targets, "expected the id of a row, got \"" + id + "\"");
      }
      if (!is_chosen(id)) chosen_.push_back(&*found);
    }
  }

  [[nodiscard]] std::vector<TargetContrast> chosen_contrasts() const {
    std::vector<TargetContrast> kept;
    std::copy_if(targets_.contrasts.begin(), targets_.contrasts.end(), std::back_inserter(kept),
                 [&](const TargetContrast& c) { return is_chosen(c.a) && is_chosen(c.b); });
    return kept;
  }

  const TargetDevice& load_device(const std::string& name, const std::string& reference) {
    const Section section = open_named(reference, "devices");
    TargetDevice device{section.json(), read_device(section)};
    return devices_.emplace(name, std::move(device)).first->second;
  }

  const TargetDevice& device_of(const TargetRow& row) {
    const std::string& name = options_.device.empty() ? row.device : options_.device;
    const auto known = devices_.find(name);
    if (known != devices_.end()) return known->second;
    const std::vector<std::string> names = builtin_names("devices");
    if (std::find(names.begin(), names.end(), name) != names.end()) return load_device(name, name);
    const std::filesystem::path file = folder_of_targets() / name;
    std::error_code error;
    if (!std::filesystem::is_regular_file(file, error)) {
      throw UnsupportedRow("no description of the device \"" + name + "\"");
    }
    return load_device(name, file.string());
  }

  RowTrace trace_of(const TargetRow& row) {
    if (!row.route_trace.empty()) return traces_.recorded(row);
    if (every_expert_is_read(row)) return traces_.any(row);
    return TargetTraces::measured_bytes(row) ? conditioned(row) : like_another(row);
  }

  RowTrace conditioned(const TargetRow& row) {
    const Json config = conditioning_config(row);
    if (!drops_experts(row)) return traces_.conditioned(row, config);
    try {
      return traces_.conditioned(row, config);
    } catch (const UnsupportedRow&) {
      return traces_.softened(row, config, noise_without_dropping(row));
    }
  }

  // What is read ahead follows from how long things take; all else is decided without a device.
  Json conditioning_config(const TargetRow& row) {
    Json config = target_config(row, device_of(row), model_of(row), TargetTraces::kFile).config;
    if (config["prefetch"]["policy"] != "none") return config;
    config["device"] = nullptr;
    config.erase("execution");
    config.erase("memory");
    return config;
  }

  // None where the row cannot be conditioned.
  std::optional<RowTrace> try_conditioned(const TargetRow& row) {
    try {
      return conditioned(row);
    } catch (const UnsupportedRow&) {
      return std::nullopt;
    } catch (const UserError&) {  // of its settings, which count where it reads ahead
      return std::nullopt;
    }
  }

  double noise_without_dropping(const TargetRow& row) {
    for (const TargetRow* other : like_rows(row)) {
      if (drops_experts(*other)) continue;
      const auto trace = try_conditioned(*other);
      if (trace && trace->meets_bytes) return trace->noise.value();
    }
    return TargetTraces::kUsualNoise;
  }

  // Rows of the same model and k that can be conditioned, the nearest size of cache first. Of the
  // whole file, so that it does not matter which rows are asked for.
  [[nodiscard]] std::vector<const TargetRow*> like_rows(const TargetRow& row) const {
    std::vector<const TargetRow*> rows;
    for (const TargetRow& other : targets_.rows) {
      const bool alike = other.group == row.group && other.top_k == row.top_k;
      if (alike && other.route_trace.empty() && !every_expert_is_read(other) &&
          TargetTraces::measured_bytes(other)) {
        rows.push_back(&other);
      }
    }
    const auto distance = [&](const TargetRow* other) {
      return std::abs(other->cache_mib.value_or(0) - row.cache_mib.value_or(1e9));
    };
    std::stable_sort(rows.begin(), rows.end(), [&](const TargetRow* a, const TargetRow* b) {
      return distance(a) < distance(b);
    });
    return rows;
  }

  RowTrace like_another(const TargetRow& row) {
    // The nearest whose bytes come out, else the nearest that only comes near them.
    std::optional<std::pair<double, std::string>> from;
    for (const TargetRow* other : like_rows(row)) {
      const auto trace = try_conditioned(*other);
      if (trace && (trace->meets_bytes || !from)) from = {trace->noise.value(), other->id};
      if (trace && trace->meets_bytes) break;
    }
    if (from) return traces_.like(row, from->first, from->second);
    throw UnsupportedRow(
        "neither its routing nor the bytes it read are recorded, and no other row "
        "of this model and k has them");
  }

  TargetResult simulate(const TargetRow& row) {
    TargetResult result;
    result.row = row;
    try {
      simulate(row, result);
    } catch (const UnsupportedRow& reason) {
      return not_simulated(result, reason.what());
    } catch (const UserError& reason) {  // of the settings or the routing of this row
      return not_simulated(result, reason.what());
    }
    return result;
  }

  void simulate(const TargetRow& row, TargetResult& result) {
    const TargetDevice& device = device_of(row);
    const auto& fitted = device.device.fitted_rows;
    result.fitted = std::find(fitted.begin(), fitted.end(), row.id) != fitted.end();
    if (!row.missing.empty()) throw UnsupportedRow("its " + row.missing + " is not recorded");
    const TargetModel model = model_of(row);
    const RowTrace trace = trace_of(row);
    const TargetConfig setup = target_config(row, device, model, trace.file);
    const Json& config = setup.config;
    result.standin = trace.standin;
    if (!trace.standin.empty() && !setup.standin.empty()) result.standin += "; ";
    result.standin += setup.standin;
    result.notes = setup.notes;
    SimulatedRow simulated = simulate_row(row, config, folder_.path());
    result.error = errors_of(row.measured, simulated.numbers);
    if (options_.with_band) result.band = band(row, config, device, simulated.numbers);
    if (!row.route_trace.empty()) compare_tokens(row, std::move(simulated.walls_ms), result);
    result.simulated = std::move(simulated.numbers);
  }

  Json band(const TargetRow& row, const Json& config, const TargetDevice& device,
            const Json& numbers) const {
    std::vector<std::vector<Json>> runs;
    for (const std::vector<BandCase>& group : band_cases(config, device.text)) {
      runs.emplace_back();
      for (const BandCase& one : group) {
        try {
          runs.back().push_back(simulate_row(row, one.config, folder_.path()).numbers);
        } catch (const UserError&) {
          continue;  // a value that no device can have (0 GB/s) does not bound the row
        }
      }
    }
    return combine_band(numbers, runs, band_metrics());
  }

  // A row without a table of its own has no comparison; a defect of its table is the reason for
  // none.
  void compare_tokens(const TargetRow& row, std::vector<double> simulated,
                      TargetResult& result) const {
    const std::filesystem::path table = folder_of_targets() / row.file;
    std::error_code error;
    if (!std::filesystem::is_regular_file(table, error)) return;
    try {
      std::vector<double> measured = read_wall_ms(table, table.string());
      const std::size_t tokens = std::min(measured.size(), simulated.size());
      if (tokens < row.tokens_dropped + 2) return;
      const auto used = [&](std::vector<double>& walls) {
        walls.resize(tokens);
        walls.erase(walls.begin(), walls.begin() + static_cast<std::ptrdiff_t>(row.tokens_dropped));
      };
      used(measured);
      used(simulated);
      result.per_token = per_token_error(measured, simulated);
    } catch (const UserError& defect) {
      result.reason = defect.what();
    }
  }

  const ValidateTargetsOptions& options_;
  TemporaryFolder folder_;
  TargetFile targets_;
  std::vector<const TargetRow*> chosen_;
  TargetTraces traces_;
  std::map<std::string, TargetDevice> devices_;
};

}  // namespace

TargetValidation validate_targets(const ValidateTargetsOptions& options) {
  return Validator(options).run();
}

}  // namespace moesim
