#include "api/validate_targets.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <sstream>

#include "api/target_band.h"
#include "api/target_config.h"
#include "api/target_simulation.h"
#include "api/target_trace.h"
#include "config/builtin.h"
#include "core/files.h"
#include "core/temporary_folder.h"

namespace moesim {
namespace {

const std::vector<std::string>& band_metrics() {
  static const std::vector<std::string> kMetrics = {"tok_s", "wall_ms.mean", "io_ms", "compute_ms"};
  return kMetrics;
}

// The column `wall_ms` of a per-token table; empty where there is no such file.
std::vector<double> read_walls(const std::filesystem::path& path, const std::string& shown) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) return {};
  std::istringstream text(read_text_file(path, shown));
  std::vector<double> walls;
  std::string line;
  std::ptrdiff_t column = -1;
  while (std::getline(text, line)) {
    if (line.empty() || line[0] == '#') continue;
    std::vector<std::string> cells;
    std::istringstream cells_of(line);
    for (std::string cell; std::getline(cells_of, cell, ',');) cells.push_back(cell);
    if (column < 0) {
      column = std::find(cells.begin(), cells.end(), "wall_ms") - cells.begin();
      if (column == static_cast<std::ptrdiff_t>(cells.size())) return {};
      continue;
    }
    try {
      walls.push_back(std::stod(cells.at(static_cast<std::size_t>(column))));
    } catch (const std::exception&) {
      throw user_error(shown, "expected a number in the column wall_ms, got \"" + line + "\"");
    }
  }
  return walls;
}

class Validator {
 public:
  explicit Validator(const ValidateTargetsOptions& options)
      : options_(options),
        targets_(read_targets(options.targets, options.targets)),
        traces_(folder_.path(), recordings()) {
    choose_rows();
  }

  TargetValidation run() {
    TargetValidation validation;
    validation.targets = options_.targets;
    // Rows that a later one takes its locality from come first; results keep the file's order.
    std::vector<std::size_t> order;
    for (const bool derived : {false, true}) {
      for (std::size_t i = 0; i < targets_.rows.size(); ++i) {
        if (takes_locality(targets_.rows[i]) == derived) order.push_back(i);
      }
    }
    validation.rows.resize(targets_.rows.size());
    for (std::size_t n = 0; n < order.size(); ++n) {
      const TargetRow& row = targets_.rows[order[n]];
      if (options_.progress) options_.progress(n, order.size(), row.id);
      validation.rows[order[n]] = simulate(row);
    }
    for (const auto& [name, device] : devices_) validation.devices.push_back(name);
    validation.contrasts = score_contrasts(targets_.contrasts, validation.rows);
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

  void choose_rows() {
    if (options_.rows.empty()) return;
    std::vector<TargetRow> chosen;
    for (const std::string& id : options_.rows) {
      const auto found = std::find_if(targets_.rows.begin(), targets_.rows.end(),
                                      [&](const TargetRow& row) { return row.id == id; });
      if (found == targets_.rows.end()) {
        throw user_error(options_.targets, "expected the id of a row, got \"" + id + "\"");
      }
      chosen.push_back(*found);
    }
    targets_.rows = std::move(chosen);
    std::vector<TargetContrast> kept;
    const auto is_chosen = [&](const std::string& id) {
      return std::find(options_.rows.begin(), options_.rows.end(), id) != options_.rows.end();
    };
    std::copy_if(targets_.contrasts.begin(), targets_.contrasts.end(), std::back_inserter(kept),
                 [&](const TargetContrast& c) { return is_chosen(c.a) && is_chosen(c.b); });
    targets_.contrasts = std::move(kept);
  }

  // A row with a cache of which neither the routing nor the bytes were recorded.
  static bool takes_locality(const TargetRow& row) {
    const bool has_cache = row.mmap || row.cache_mib.value_or(0) > 0;
    return has_cache && row.route_trace.empty() && !TargetTraces::measured_bytes(row);
  }

  const TargetDevice& device_of(const TargetRow& row) {
    const std::string name = options_.device.empty() ? row.device : options_.device;
    const auto known = devices_.find(name);
    if (known != devices_.end()) return known->second;
    const Section section = open_named(name, "devices");
    TargetDevice device{section.json(), read_device(section)};
    return devices_.emplace(name, std::move(device)).first->second;
  }

  RowTrace trace_of(const TargetRow& row, const TargetDevice& device, const TargetModel& model) {
    if (!row.route_trace.empty()) return traces_.recorded(row);
    if (takes_locality(row)) return like_another(row);
    if (!row.mmap && row.cache_mib.value_or(0) <= 0) return traces_.any(row);
    Json config = target_config(row, device, model, "conditioned.safetensors");
    config["device"] = nullptr;
    config["prefetch"] = {{"policy", "none"}};
    config.erase("execution");
    config.erase("memory");
    RowTrace trace = traces_.conditioned(row, config);
    if (trace.noise) noises_.push_back({&row, *trace.noise});
    return trace;
  }

  // The row of the same model and k whose cache is nearest in size.
  RowTrace like_another(const TargetRow& row) {
    const Noise* nearest = nullptr;
    const auto distance = [&](const Noise& noise) {
      return std::abs(noise.row->cache_mib.value_or(0) - row.cache_mib.value_or(1e9));
    };
    for (const Noise& noise : noises_) {
      if (noise.row->group != row.group || noise.row->top_k != row.top_k) continue;
      if (nearest == nullptr || distance(noise) < distance(*nearest)) nearest = &noise;
    }
    if (nearest == nullptr) {
      throw UnsupportedRow(
          "neither its routing nor the bytes it read are recorded, and no other row "
          "of this model and k has them");
    }
    return traces_.like(row, nearest->noise, nearest->row->id);
  }

  TargetResult simulate(const TargetRow& row) {
    TargetResult result;
    result.row = row;
    try {
      simulate(row, result);
    } catch (const UnsupportedRow& reason) {
      result.simulated = nullptr;
      result.reason = reason.what();
    }
    return result;
  }

  void simulate(const TargetRow& row, TargetResult& result) {
    const TargetDevice& device = device_of(row);
    const auto& fitted = device.device.fitted_rows;
    result.fitted = std::find(fitted.begin(), fitted.end(), row.id) != fitted.end();
    const TargetModel model = model_of(row);
    const RowTrace trace = trace_of(row, device, model);
    result.standin = trace.standin;
    const Json config = target_config(row, device, model, trace.file);
    SimulatedRow simulated = simulate_row(row, config, folder_.path());
    Json measured = row.measured;
    const auto io = metric_of(measured, "io_ms");
    const auto mib = metric_of(measured, "mib_per_token");
    if (io && mib && *mib > 0) measured["io_ms_per_mib"] = *io / *mib;
    result.error = target_errors(measured, simulated.numbers);
    if (options_.with_band) result.band = band(row, config, device, simulated.numbers);
    if (!row.route_trace.empty()) result.per_token = compare_tokens(row, simulated.walls_ms);
    result.simulated = std::move(simulated.numbers);
  }

  Json band(const TargetRow& row, const Json& config, const TargetDevice& device,
            const Json& numbers) const {
    std::vector<std::vector<Json>> runs;
    for (const std::vector<BandCase>& group : band_cases(config, device.text)) {
      runs.emplace_back();
      for (const BandCase& one : group) {
        runs.back().push_back(simulate_row(row, one.config, folder_.path()).numbers);
      }
    }
    return combine_band(numbers, runs, band_metrics());
  }

  std::optional<PerTokenError> compare_tokens(const TargetRow& row, std::vector<double> simulated) {
    std::vector<double> measured = read_walls(folder_of_targets() / row.file, row.file);
    const std::size_t tokens = std::min(measured.size(), simulated.size());
    if (tokens < row.tokens_dropped + 2) return std::nullopt;
    const auto used = [&](std::vector<double>& walls) {
      walls.resize(tokens);
      walls.erase(walls.begin(), walls.begin() + static_cast<std::ptrdiff_t>(row.tokens_dropped));
    };
    used(measured);
    used(simulated);
    return per_token_error(measured, simulated);
  }

  struct Noise {
    const TargetRow* row;
    double noise;
  };

  const ValidateTargetsOptions& options_;
  TemporaryFolder folder_;
  TargetFile targets_;
  TargetTraces traces_;
  std::map<std::string, TargetDevice> devices_;
  std::vector<Noise> noises_;
};

}  // namespace

TargetValidation validate_targets(const ValidateTargetsOptions& options) {
  return Validator(options).run();
}

}  // namespace moesim
