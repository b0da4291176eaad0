#include "api/sweep.h"

#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <atomic>
#include <exception>
#include <map>
#include <optional>

#include "api/overrides.h"
#include "api/shared_runs.h"
#include "core/errors.h"
#include "core/files.h"

namespace moesim {
namespace {

// Names may hold bytes that are no UTF-8.
template <class AnyJson>
std::string text_of(const AnyJson& json) {
  return json.dump(-1, ' ', false, AnyJson::error_handler_t::replace);
}

std::string place_of(const Json& values, std::size_t number, std::size_t points) {
  return fmt::format("point {} of {} ({})", number + 1, points, point_text(values));
}

// What makes a line of the file the line of a point, without regard to the order of the axes. A sum
// of it, because a grid may have a million points.
std::string identity_of(const Json& line) {
  const nlohmann::json point = line.at("point");
  return sha256_of_text(text_of(line.at("program")) + text_of(line.at("config")) +
                        text_of(line.at("inputs")) + text_of(point));
}

std::string line_of(const RunReport& report, const Json& values) {
  Json line = result_json(report);
  line["point"] = values;
  return text_of(line);
}

}  // namespace

class Sweep::Parts {
 public:
  explicit Parts(const SweepOptions& options)
      : options_(options),
        grid_(read_axes(options.vary)),
        base_(load_config(options.config, {})),
        identities_(grid_.size()),
        rows_(grid_.size()) {
    load_config(options_.config, options_.overrides);  // a mistake there is not one of a point
    in_parallel(grid_.size(), [this](std::size_t i) { check(i); });
    file_.emplace(options_.out, options_.resume);
    match_lines();
    file_->cut();
  }

  void run(const std::function<void(std::size_t)>& progress) {
    std::vector<std::size_t> missing;
    missing.reserve(grid_.size());
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      if (!rows_[i]) missing.push_back(i);
    }
    std::size_t done = 0;
    std::mutex mutex;
    in_parallel(missing.size(), [&](std::size_t i) {
      run_point(missing[i]);
      const std::scoped_lock lock(mutex);
      ++done;
      if (progress) progress(done);
    });
    finished_.reserve(rows_.size());
    for (const auto& row : rows_) finished_.push_back(*row);
  }

  [[nodiscard]] std::size_t points() const { return grid_.size(); }
  [[nodiscard]] std::size_t found() const { return found_; }
  [[nodiscard]] const std::vector<SweepRow>& rows() const { return finished_; }
  [[nodiscard]] std::unique_lock<std::mutex> pause() { return file_->pause(); }

 private:
  static std::vector<SweepAxis> read_axes(const std::vector<std::string>& texts) {
    std::vector<SweepAxis> axes;
    axes.reserve(texts.size());
    for (const std::string& text : texts) axes.push_back(read_axis(text));
    return axes;
  }

  [[nodiscard]] ConfigText config_of(const Json& values) const {
    ConfigText config = base_;
    std::vector<std::string> overrides = options_.overrides;
    for (std::string& text : overrides_of(values)) overrides.push_back(std::move(text));
    apply_overrides(config.root, overrides, config.warnings);
    return config;
  }

  // Errors of one point say which.
  template <class Function>
  void at_point(const Json& values, std::size_t number, Function&& function) const {
    try {
      function();
    } catch (const UserError& error) {
      if (values.empty()) throw;
      throw user_error(place_of(values, number, grid_.size()), error.what());
    }
  }

  // Of several errors the first in order is thrown, so that it does not depend on the threads;
  // what comes after an error is not begun.
  template <class Function>
  void in_parallel(std::size_t count, Function&& function) const {
    const tbb::global_control control(tbb::global_control::max_allowed_parallelism, options_.jobs);
    tbb::task_arena arena(static_cast<int>(options_.jobs));
    std::mutex mutex;
    std::exception_ptr error;
    std::atomic<std::size_t> first_error = count;
    const auto guarded = [&](std::size_t i) {
      if (i > first_error) return;
      try {
        function(i);
      } catch (...) {
        const std::scoped_lock lock(mutex);
        if (i > first_error) return;
        first_error = i;
        error = std::current_exception();
      }
    };
    arena.execute([&] {
      tbb::parallel_for(
          tbb::blocked_range<std::size_t>(0, count, 1),
          [&](const tbb::blocked_range<std::size_t>& range) {
            for (std::size_t i = range.begin(); i < range.end(); ++i) guarded(i);
          },
          tbb::simple_partitioner());
    });
    if (error) std::rethrow_exception(error);
  }

  void check(std::size_t number) {
    const Json values = grid_.point(number);
    at_point(values, number, [&] {
      const ConfigText config = config_of(values);
      const auto plan = plan_run(config, &shared_.share());
      shared_.announce(*plan);
      identities_[number] =
          identity_of({{"program", program_json()},
                       {"config", describe_run(*plan).config},
                       {"inputs", inputs_json(inputs_of(config, *plan, shared_.file_sum()))},
                       {"point", values}});
    });
  }

  void match_lines() {
    std::map<std::string, std::size_t> by_identity;
    for (std::size_t i = 0; i < grid_.size(); ++i) by_identity[identities_[i]] = i;
    const auto& lines = file_->found();
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const std::string place = fmt::format("{}: line {}", options_.out.string(), i + 1);
      try {
        const Json line = Json::parse(lines[i]);
        const auto point = by_identity.find(identity_of(line));
        if (point == by_identity.end()) throw user_error(place, foreign_line(line));
        if (rows_[point->second]) throw user_error(place, "expected each point once, got it twice");
        rows_[point->second] = sweep_row(line);
        ++found_;
      } catch (const Json::exception&) {
        throw user_error(place, "expected a result of this sweep, got something else");
      }
    }
  }

  [[nodiscard]] static std::string foreign_line(const Json& line) {
    const Json& program = line.at("program");
    if (program != program_json()) {
      return fmt::format("expected a result of this program, {}, got one of {}",
                         program_json().dump(), program.dump());
    }
    return fmt::format("expected a point of this sweep, got one of another configuration: {}",
                       point_text(line.at("point")));
  }

  void run_point(std::size_t number) {
    const Json values = grid_.point(number);
    at_point(values, number, [&] {
      ExecuteOptions execute;
      execute.shared = &shared_;
      const std::string line = line_of(moesim::run(config_of(values), execute), values);
      file_->append(line);
      rows_[number] = sweep_row(Json::parse(line));
    });
  }

  SweepOptions options_;
  SweepGrid grid_;
  SharedRuns shared_;
  ConfigText base_;
  std::vector<std::string> identities_;  // [points]
  std::optional<SweepFile> file_;
  std::vector<std::optional<SweepRow>> rows_;  // [points]
  std::size_t found_ = 0;
  std::vector<SweepRow> finished_;
};

Sweep::Sweep(const SweepOptions& options) : parts_(std::make_unique<Parts>(options)) {}
Sweep::~Sweep() = default;
std::size_t Sweep::points() const { return parts_->points(); }
std::size_t Sweep::found() const { return parts_->found(); }
void Sweep::run(const std::function<void(std::size_t)>& progress) { parts_->run(progress); }
const std::vector<SweepRow>& Sweep::rows() const { return parts_->rows(); }
std::unique_lock<std::mutex> Sweep::pause() { return parts_->pause(); }

}  // namespace moesim
