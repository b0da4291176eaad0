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

namespace moesim {
namespace {

struct SweepPoint {
  Json values;
  ConfigText config;
  std::string identity;  // what makes a line of the file the line of this point
};

std::string place_of(const Json& values, std::size_t number, std::size_t points) {
  return fmt::format("point {} of {} ({})", number + 1, points, point_text(values));
}

// Without regard to the order in which the axes were given.
std::string identity_of(const Json& line) {
  const nlohmann::json point = line.at("point");
  return line.at("program").dump() + line.at("config").dump() + line.at("inputs").dump() +
         point.dump();
}

std::string line_of(const RunReport& report, const Json& values) {
  Json line = result_json(report);
  line["point"] = values;
  return line.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

class Sweep::Parts {
 public:
  explicit Parts(const SweepOptions& options) : options_(options), grid_(read_axes(options.vary)) {
    read_points();
    in_parallel(points_.size(), [this](std::size_t i) { check(i); });
    file_.emplace(options_.out, options_.resume);
    rows_.resize(points_.size());
    match_lines();
    file_->cut();
  }

  void run(const std::function<void(std::size_t)>& progress) {
    std::vector<std::size_t> missing;
    missing.reserve(points_.size());
    for (std::size_t i = 0; i < points_.size(); ++i) {
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

  [[nodiscard]] std::size_t points() const { return points_.size(); }
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

  void read_points() {
    const ConfigText base = load_config(options_.config, {});
    load_config(options_.config, options_.overrides);  // a mistake there is not one of a point
    points_.reserve(grid_.size());
    for (std::size_t i = 0; i < grid_.size(); ++i) {
      SweepPoint point{grid_.point(i), base, ""};
      std::vector<std::string> overrides = options_.overrides;
      for (std::string& text : overrides_of(point.values)) overrides.push_back(std::move(text));
      at_point(point.values, i,
               [&] { apply_overrides(point.config.root, overrides, point.config.warnings); });
      points_.push_back(std::move(point));
    }
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
    SweepPoint& point = points_[number];
    at_point(point.values, number, [&] {
      const auto plan = plan_run(point.config, &shared_.share());
      shared_.announce(*plan);
      point.identity =
          identity_of({{"program", program_json()},
                       {"config", describe_run(*plan).config},
                       {"inputs", inputs_json(inputs_of(point.config, *plan, shared_.file_sum()))},
                       {"point", point.values}});
    });
  }

  void match_lines() {
    std::map<std::string, std::size_t> by_identity;
    for (std::size_t i = 0; i < points_.size(); ++i) by_identity[points_[i].identity] = i;
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
    const SweepPoint& point = points_[number];
    at_point(point.values, number, [&] {
      ExecuteOptions execute;
      execute.shared = &shared_;
      const std::string line = line_of(moesim::run(point.config, execute), point.values);
      file_->append(line);
      rows_[number] = sweep_row(Json::parse(line));
    });
  }

  SweepOptions options_;
  SweepGrid grid_;
  SharedRuns shared_;
  std::vector<SweepPoint> points_;
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
