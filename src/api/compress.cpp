#include "api/compress.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "compression/error_table.h"
#include "compression/expert_allocation.h"
#include "compression/expert_factors.h"
#include "core/files.h"
#include "core/version.h"

namespace moesim {
namespace {

// Sums of more would not be numbers.
constexpr double kLargestCost = 1e200;

ConfigText without_allocation(ConfigText config) {
  if (config.root.contains("weights") && config.root.at("weights").is_object()) {
    config.root.at("weights").erase("allocation");
  }
  return config;
}

// Everything between a plan and a document.
class Compression {
 public:
  Compression(const ConfigText& config, const CompressOptions& options)
      : options_(options),
        config_(config),
        plan_(plan_run(without_allocation(config))),
        shape_(plan_->trace().shape()),
        factors_(measure_factors(plan_->trace(), plan_->gate(), plan_->k(),
                                 plan_->config().schedule.max_tokens)) {
    if (options_.min_counts.empty()) {
      options_.min_counts.assign(options_.bit_set.size(), 1);
      options_.min_counts.front() = 0;
    }
    require_weights();
    errors_ = options_.errors_path.empty() ? stand_in_errors(shape_, options_.bit_set)
                                           : measured_errors();
    scale_errors();
    costs_ = costs();
  }

  CompressReport report() {
    solve();
    CompressReport report;
    report.document = document();
    report.text = text();
    return report;
  }

 private:
  void require_weights() const {
    if (!factors_.weight.empty() || options_.exponents[1] == 0) return;
    throw user_error(
        "--exponents",
        fmt::format("expected beta = 0, got {}: PMQ's activation weight needs router_logits or "
                    "topk_weights, which the trace {} lacks",
                    options_.exponents[1], plan_->trace().shown()));
  }

  [[nodiscard]] ErrorTable measured_errors() const {
    const std::string& path = options_.errors_path;
    return read_errors(Section(read_json_file(path, path), path, ""), shape_, options_.bit_set);
  }

  void scale_errors() {
    const auto& scales = options_.layer_scales;
    if (scales.empty()) return;
    if (scales.size() != shape_.layers) {
      throw user_error("--layer-scales", fmt::format("expected {} numbers, one for each MoE layer, "
                                                     "got {}",
                                                     shape_.layers, scales.size()));
    }
    const std::size_t per_layer = errors_.values.size() / shape_.layers;
    for (std::size_t i = 0; i < errors_.values.size(); ++i) {
      const double scale = scales[i / per_layer];
      if (!(scale >= 0 && std::isfinite(scale))) {
        throw user_error("--layer-scales", fmt::format("expected numbers >= 0, got {}", scale));
      }
      errors_.values[i] *= scale;
    }
  }

  [[nodiscard]] std::vector<double> costs() const {
    const auto [alpha, beta, gamma] = options_.exponents;
    const std::size_t widths = options_.bit_set.size();
    std::vector<double> costs;
    costs.reserve(errors_.values.size());
    for (std::size_t i = 0; i < errors_.values.size(); ++i) {
      const double weight = factors_.weight.empty() ? 1.0 : factors_.weight[i / widths];
      costs.push_back(std::pow(factors_.frequency[i / widths], alpha) * std::pow(weight, beta) *
                      std::pow(errors_.values[i], gamma));
      if (!(costs.back() <= kLargestCost)) {
        throw user_error("--exponents", fmt::format("expected costs of at most {}, got {}",
                                                    kLargestCost, costs.back()));
      }
    }
    return costs;
  }

  // The slack undoes the error of a decimal fraction in binary: 64 x 2.2 is not quite 140.8.
  [[nodiscard]] std::uint64_t budget(std::size_t items) const {
    return static_cast<std::uint64_t>(
        std::floor(static_cast<double>(items) * options_.mean_bits + 1e-6));
  }

  void solve() {
    const std::size_t parts = options_.global ? 1 : shape_.layers;
    const std::size_t items = shape_.layers * shape_.experts / parts;
    const std::size_t per_part = items * options_.bit_set.size();
    bits_.reserve(items * parts);
    for (std::size_t part = 0; part < parts; ++part) {
      const auto first = costs_.begin() + static_cast<std::ptrdiff_t>(part * per_part);
      const AllocationProblem problem{options_.bit_set,
                                      {first, first + static_cast<std::ptrdiff_t>(per_part)},
                                      budget(items),
                                      options_.row,
                                      options_.min_counts};
      const auto solution = solve_allocation(problem, true);
      if (!solution) throw impossible(items);
      bits_.insert(bits_.end(), solution->best.bits.begin(), solution->best.bits.end());
      objectives_.push_back(solution->best.objective);
      runner_ups_.push_back(solution->runner_up ? Json(solution->runner_up->objective)
                                                : Json(nullptr));
    }
  }

  [[nodiscard]] UserError impossible(std::size_t items) const {
    return user_error("--bits", fmt::format("expected a budget that can be met, got {} bits in all "
                                            "for {} experts out of {} bits each, at least {} of "
                                            "them",
                                            budget(items), items, fmt::join(options_.bit_set, ", "),
                                            fmt::join(options_.min_counts, ", ")));
  }

  template <class Value>
  [[nodiscard]] Json by_layer(const std::vector<Value>& values) const {
    Json rows = Json::array();
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      const auto first = values.begin() + static_cast<std::ptrdiff_t>(layer * shape_.experts);
      rows.push_back(
          std::vector<Value>(first, first + static_cast<std::ptrdiff_t>(shape_.experts)));
    }
    return rows;
  }

  [[nodiscard]] double mean_bits() const {
    return static_cast<double>(std::accumulate(bits_.begin(), bits_.end(), std::uint64_t{0})) /
           static_cast<double>(bits_.size());
  }

  [[nodiscard]] Json problem_json() const {
    Json json = {{"method", "PMQ (MC-MoE, arXiv 2410.06270, Eq. 4), exact dynamic programme"},
                 {"bits", options_.mean_bits},
                 {"budget", options_.global ? "global" : "layer"},
                 {"row", options_.row == BudgetRow::kEqual ? "equal" : "at_most"},
                 {"total_bits", budget(bits_.size() / objectives_.size())},
                 {"bit_set", options_.bit_set},
                 {"min_counts", options_.min_counts},
                 {"exponents", options_.exponents},
                 {"errors", errors_.source}};
    json["layer_scales"] =
        options_.layer_scales.empty() ? Json(nullptr) : Json(options_.layer_scales);
    return json;
  }

  [[nodiscard]] Json size_json() const {
    Json counts = Json::object();
    for (const std::uint32_t width : options_.bit_set) {
      counts[std::to_string(width)] = std::count(bits_.begin(), bits_.end(), width);
    }
    Json json = {{"mean_bits", mean_bits()},
                 {"experts_by_bits", counts},
                 {"rest_bits", options_.size.rest_bits}};
    const auto& model = plan_->config().model;
    json["label_bits"] = nullptr;
    json["gb"] = nullptr;
    if (model) {
      const CompressedSize size = compressed_size(*model, mean_bits(), options_.size);
      json["label_bits"] = size.label_bits;
      json["gb"] = size.bytes * 1e-9;
    }
    return json;
  }

  [[nodiscard]] Json provenance_json() const {
    Json inputs = Json::array();
    const auto add = [&](const std::string& shown, const std::filesystem::path& path) {
      inputs.push_back({{"path", shown}, {"sha256", sha256_of_file(path)}});
    };
    add(config_.shown, config_.shown);
    add(plan_->config().trace_shown, plan_->config().trace_path);
    for (const RunConfig::Input& input : plan_->config().inputs) add(input.shown, input.path);
    if (!options_.errors_path.empty()) add(options_.errors_path, options_.errors_path);
    return {{"program", {{"version", program_version()}, {"commit", program_commit()}}},
            {"inputs", std::move(inputs)}};
  }

  [[nodiscard]] Json document() const {
    const auto& model = plan_->config().model;
    Json json = {{"schema", kAllocationSchema},
                 {"source", "sim compress"},
                 {"model", model ? Json(model->name) : Json(nullptr)},
                 {"problem", problem_json()},
                 {"bits", by_layer(bits_)},
                 {"overhead_bits", options_.size.overhead_bits}};
    json["objective"] = {{"total", std::accumulate(objectives_.begin(), objectives_.end(), 0.0)},
                         {"by_budget", objectives_},
                         {"runner_up_by_budget", runner_ups_}};
    json["size"] = size_json();
    json["factors"] = {
        {"frequency", by_layer(factors_.frequency)},
        {"weight", factors_.weight.empty() ? Json(nullptr) : by_layer(factors_.weight)},
        {"weight_source", factors_.weight.empty() ? Json(nullptr) : Json(factors_.weight_source)}};
    json["provenance"] = provenance_json();
    return json;
  }

  [[nodiscard]] std::vector<std::string> text() const {
    const Json size = size_json();
    std::string counts;
    for (const auto& item : size.at("experts_by_bits").items()) {
      counts += fmt::format("{}{} of {} bit", counts.empty() ? "" : ", ",
                            item.value().get<std::size_t>(), item.key());
    }
    std::vector<std::string> lines{
        fmt::format("{} layers x {} experts: {}", shape_.layers, shape_.experts, counts),
        fmt::format("{:.3f} bits per expert weight, {:.3f} with scales", mean_bits(),
                    mean_bits() + options_.size.overhead_bits)};
    if (plan_->config().model) {
      lines.push_back(fmt::format("{} in all {:.2f} GB, reported as {:.2f} bits",
                                  plan_->config().model->name, size.at("gb").get<double>(),
                                  size.at("label_bits").get<double>()));
    }
    lines.push_back("errors: " + errors_.source);
    return lines;
  }

  CompressOptions options_;
  const ConfigText& config_;
  std::unique_ptr<RunPlan> plan_;
  RoutingShape shape_;
  ExpertFactors factors_;
  ErrorTable errors_;
  std::vector<double> costs_;        // [layers, experts, bit_set]
  std::vector<std::uint32_t> bits_;  // [layers, experts]
  std::vector<double> objectives_;   // [budgets]
  std::vector<Json> runner_ups_;     // [budgets], null where there is none
};

}  // namespace

CompressReport compress(const ConfigText& config, const CompressOptions& options) {
  check_options(options);
  return Compression(config, options).report();
}

}  // namespace moesim
