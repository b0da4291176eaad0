// moesim._moesim.run and its result: the document, the per-token table as columns, the selections.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "api/run.h"
#include "python/bindings.h"
#include "python/given_routing.h"
#include "python/registry_use.h"
#include "python/selection_log.h"
#include "python/trace_binding.h"
#include "python/views.h"

namespace moesim::python {
namespace {

namespace py = pybind11;

// The rows of a run as columns, which is how NumPy wants them; names as in the CSV.
struct TokenColumns {
  explicit TokenColumns(const RunResult& result) : knows_bytes(result.knows_bytes) {
    reserve(result.rows.size());
    for (const TokenRow& row : result.rows) add(row);
  }

  void reserve(std::size_t rows) {
    token.reserve(rows);
    sequence.reserve(rows);
    position.reserve(rows);
    wall_ms.reserve(rows);
    for (auto& part : parts_ms) part.reserve(rows);
    for (auto* counts : {&read_bytes, &hits, &misses, &experts}) counts->reserve(rows);
  }

  void add(const TokenRow& row) {
    token.push_back(row.token);
    sequence.push_back(row.sequence);
    position.push_back(row.position);
    wall_ms.push_back(to_ms(row.wall));
    for (std::size_t i = 0; i < kTimeParts; ++i) parts_ms[i].push_back(to_ms(row.parts[i]));
    read_bytes.push_back(row.read_bytes);
    hits.push_back(row.hits);
    misses.push_back(row.misses);
    experts.push_back(row.experts);
  }

  bool knows_bytes;
  std::vector<std::uint32_t> token;
  std::vector<std::int32_t> sequence;
  std::vector<std::uint32_t> position;
  std::vector<double> wall_ms;
  std::array<std::vector<double>, kTimeParts> parts_ms;
  std::vector<std::uint64_t> read_bytes;
  std::vector<std::uint64_t> hits;
  std::vector<std::uint64_t> misses;
  std::vector<std::uint64_t> experts;
};

// Owns what the arrays of a result look at.
struct Outcome {
  std::string json;  // as `sim run --json -` prints it
  std::string summary;
  std::optional<TokenColumns> columns;
  std::optional<SelectionLog> selections;
};

struct RunRequest {
  std::string path;      // of the configuration; "" where `text` is it
  std::string text;      // JSON
  std::string base_dir;  // of the paths in `text`
  std::vector<std::string> overrides;
  const HeldTrace* trace = nullptr;
  const RoutingDeclaration* routing = nullptr;
  bool tokens = false;
  bool selections = false;
};

ConfigText config_of(const RunRequest& request) {
  constexpr const char* kShown = "config";
  ConfigText config = request.path.empty() ? make_config(parse_json(request.text, kShown), kShown,
                                                         request.base_dir, request.overrides)
                                           : load_config(request.path, request.overrides);
  if (request.trace != nullptr) {
    config.trace = request.trace->shared();
    config.trace_sha256 = request.trace->sha256();
    Json& trace = config.root["trace"];
    if (trace.is_object() || trace.is_null()) trace["path"] = config.trace->shown();
  }
  return config;
}

std::unique_ptr<Outcome> run_without_gil(const RunRequest& request, const GivenRouting* given) {
  const RegistryUse in_use;
  ConfigText config = config_of(request);
  if (given != nullptr) given->enter(config.root);
  const std::unique_ptr<RunPlan> plan = plan_run(config);
  auto outcome = std::make_unique<Outcome>();
  ExecuteOptions options;
  options.keep_rows = request.tokens;
  if (request.selections) options.observer = &outcome->selections.emplace(*plan);
  const RunReport report = run(config, *plan, options);
  outcome->json = result_json(report).dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
  std::ostringstream summary;
  write_summary(report, summary);
  outcome->summary = std::move(summary).str();
  if (request.tokens) outcome->columns.emplace(report.result);
  return outcome;
}

std::unique_ptr<Outcome> run_request(const std::string& path, const std::string& text,
                                     const std::string& base_dir,
                                     const std::vector<std::string>& overrides,
                                     const HeldTrace* trace, const RoutingDeclaration* routing,
                                     bool tokens, bool selections) {
  const RunRequest request{path, text, base_dir, overrides, trace, routing, tokens, selections};
  std::optional<GivenRouting> given;
  if (routing != nullptr) given.emplace(*routing);
  const py::gil_scoped_release others_may_run;
  return run_without_gil(request, given ? &*given : nullptr);
}

// Name and array of each column, which look into `self`.
py::dict columns(const py::object& self) {
  const auto& outcome = self.cast<const Outcome&>();
  py::dict result;
  if (!outcome.columns) return result;
  const TokenColumns& all = *outcome.columns;
  const auto add = [&](const char* name, const auto& values) {
    result[name] = view_of(values.data(), {static_cast<py::ssize_t>(values.size())}, self);
  };
  add("token", all.token);
  add("sequence", all.sequence);
  add("position", all.position);
  add("wall_ms", all.wall_ms);
  constexpr std::array<const char*, kTimeParts> kParts{"compute_ms", "stall_ms", "admission_ms",
                                                       "predictor_ms", "overhead_ms"};
  for (std::size_t i = 0; i < kTimeParts; ++i) add(kParts[i], all.parts_ms[i]);
  if (all.knows_bytes) add("read_bytes", all.read_bytes);
  add("hits", all.hits);
  add("misses", all.misses);
  add("experts", all.experts);
  return result;
}

// The same of the selections, [tokens, layers, width].
py::dict selections(const py::object& self) {
  const auto& outcome = self.cast<const Outcome&>();
  py::dict result;
  if (!outcome.selections) return result;
  const SelectionLog& log = *outcome.selections;
  const auto axis = [](std::size_t length) { return static_cast<py::ssize_t>(length); };
  const std::vector<py::ssize_t> shape{axis(log.tokens()), axis(log.layers()), axis(log.width())};
  result["ids"] = view_of(log.ids().data(), shape, self);
  result["weights"] = view_of(log.weights().data(), shape, self);
  result["hits"] = view_of(log.hits().data(), shape, self).attr("view")("?");
  return result;
}

std::string resolved_config(const std::string& path, const std::string& text,
                            const std::string& base_dir, const std::vector<std::string>& overrides,
                            const HeldTrace* trace) {
  const py::gil_scoped_release others_may_run;
  const RegistryUse in_use;
  const RunRequest request{path, text, base_dir, overrides, trace, nullptr, false, false};
  return describe_run(*plan_run(config_of(request))).config.dump();
}

}  // namespace

void bind_results(py::module_& module) {
  py::class_<Outcome>(module, "Outcome")
      .def("json", [](const Outcome& outcome) { return outcome.json; })
      .def("summary", [](const Outcome& outcome) { return outcome.summary; })
      .def("columns", [](const py::object& self) { return columns(self); })
      .def("selections", [](const py::object& self) { return selections(self); });
  module.def("run", &run_request);
  module.def("resolved_config", &resolved_config);
}

}  // namespace moesim::python
