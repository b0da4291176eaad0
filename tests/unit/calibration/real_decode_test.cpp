// The real decode loop does the work that the simulation says: the same hits, bytes, evictions and
// reads, and the outputs of the plain way. No time is looked at.
#include "calibration/real_decode.h"

#include <atomic>
#include <cerrno>
#include <fstream>

#include "calibration/real_run.h"
#include "calibration/run_comparison.h"
#include "kernels/simd_target.h"
#include "metrics/run_metrics.h"
#include "support/scenario.h"

namespace moesim {
namespace {

using test::Scenario;

// Small experts (24 KiB), so that a run reads a few MiB.
Scenario small_scenario(std::size_t tokens = 16) {
  Scenario scenario(tokens);
  scenario.config["model"]["hidden_size"] = 64;
  scenario.config["model"]["moe_intermediate_size"] = 64;
  scenario.config["model"]["shared_expert_intermediate_size"] = 32;
  scenario.config["memory"] = {{"expert_pages", "reserved"}};
  scenario.config["execution"]["threads"] = 2;
  return scenario;
}

struct Outcome {
  RunResult result;
  std::vector<std::uint64_t> outputs;
};

class RealRun {
 public:
  explicit RealRun(const Scenario& scenario)
      : scenario_(scenario), plan_(scenario.plan()), path_(folder_.path() / "experts") {
    require_real(*plan_);
    write_expert_store(path_, store_shape(*plan_, 7));
    store_.emplace(path_);
    dense_.emplace(*plan_->config().model, *plan_->costs(), dense_format(*plan_),
                   longest_context(*plan_));
  }

  [[nodiscard]] const ExpertStore& store() const { return *store_; }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  // Buffered: temporary folders may lie where there are no direct reads.
  Outcome decode(ReaderOptions reader = {}, bool async = false) const {
    const auto plan = scenario_.plan();
    const ExecutionOptions& execution = plan->config().execution;
    reader.access = ReadAccess::kBuffered;
    std::unique_ptr<StoreReader> made;
    if (execution.read_path == ReadPath::kDirect) {
      made = async ? make_uring_reader(path_, execution.lanes, reader)
                   : make_lane_reader(path_, execution.lanes, reader);
    }
    RealExperts experts(*store_, std::move(made),
                        {execution.layout, execution.read_path, slots_needed(*plan)});
    ThreadTeam team(execution.threads);
    RealDecode decode({plan.get(), &*dense_, &experts, &team});
    RunMetrics metrics(*plan, true);
    decode.run(metrics);
    return {metrics.result(), decode.outputs()};
  }

  [[nodiscard]] RunResult simulate() const {
    const auto plan = scenario_.plan();
    ExecuteOptions options;
    options.keep_rows = true;
    options.with_bounds = false;
    return execute(*plan, options);
  }

  [[nodiscard]] std::vector<std::uint64_t> reference() const {
    const auto plan = scenario_.plan();
    return reference_outputs(*plan, *dense_, *store_, plan->schedule().passes.size());
  }

 private:
  const Scenario& scenario_;
  TemporaryFolder folder_;
  std::unique_ptr<RunPlan> plan_;
  std::filesystem::path path_;
  std::optional<ExpertStore> store_;
  std::optional<DenseWeights> dense_;
};

void check_same_work(const Scenario& scenario, bool async = false) {
  const RealRun run(scenario);
  const Outcome real = run.decode({}, async);
  CHECK(first_difference(real.result, run.simulate()) == "");
  CHECK(real.outputs == run.reference());
  CHECK(real.result.cache.misses > 0);
}

}  // namespace

TEST_SUITE("calibration/real_decode") {
  TEST_CASE("every overlap, layout and number of lanes does the simulation's work") {
    for (const char* overlap : {"none", "expert", "projection"}) {
      for (const char* layout : {"slices", "fused", "contiguous"}) {
        for (const std::size_t lanes : {1, 2, 4}) {
          CAPTURE(overlap);
          CAPTURE(layout);
          CAPTURE(lanes);
          Scenario scenario = small_scenario(8);
          scenario.config["execution"]["overlap"] = overlap;
          scenario.config["execution"]["expert_layout"] = layout;
          scenario.config["execution"]["lanes"] = lanes;
          check_same_work(scenario);
        }
      }
    }
  }

  TEST_CASE("so do io_uring and page faults") {
    Scenario scenario = small_scenario();
    scenario.config["execution"]["overlap"] = "expert";
    if (uring_support().available) {
      check_same_work(scenario, true);
    } else {
      MESSAGE("skipped: " << uring_support().reason);
    }
    scenario.config["execution"]["overlap"] = "none";
    scenario.config["execution"]["read_path"] = "mmap";
    scenario.config["device"]["flash"]["mmap_fault_us"] = 80;
    check_same_work(scenario);
  }

  TEST_CASE("every eviction policy, cache scope and accounting") {
    for (const char* policy : {"lru", "lfu", "lifo", "random", "belady", "s3_fifo", "arc"}) {
      for (const char* scope : {"layer", "global"}) {
        for (const char* accounting : {"event", "access"}) {
          CAPTURE(policy);
          CAPTURE(scope);
          CAPTURE(accounting);
          Scenario scenario = small_scenario(12);
          Json& cache = scenario.config["cache"];
          cache["eviction"]["policy"] = policy;
          cache["scope"] = scope;
          cache["accounting"] = accounting;
          cache["capacity_experts"] = std::string(scope) == "layer" ? 5 : 20;
          check_same_work(scenario);
        }
      }
    }
  }

  TEST_CASE("a cache that holds nothing, the event and more, or everything") {
    for (const std::size_t capacity : {0, 4, 16}) {
      for (const char* overflow : {"trim", "keep_event"}) {
        CAPTURE(capacity);
        CAPTURE(overflow);
        Scenario scenario = small_scenario();
        scenario.config["cache"]["capacity_experts"] = capacity;
        scenario.config["cache"]["overflow"] = overflow;
        check_same_work(scenario);
      }
    }
    Scenario tight = small_scenario();
    tight.config["cache"]["capacity_experts"] = 2;
    tight.config["cache"]["overflow"] = "keep_event";
    check_same_work(tight);
  }

  TEST_CASE("routing that looks at the cache, prunes, and repeats or leaves out layers") {
    Scenario scenario = small_scenario();
    scenario.config["routing"] = {{"policy", "cache_prior"}, {"lambda", 0.5}, {"keep_top", 1}};
    check_same_work(scenario);
    scenario.config["routing"] = {{"policy", "cumulative_threshold"}, {"p_thr", 0.6}};
    check_same_work(scenario);
    scenario.config["routing"] = {{"policy", "layer_plan"}, {"executions", {1, 2, 0, 1}}};
    check_same_work(scenario);
  }

  TEST_CASE("initial contents are there, and a reset of the cache empties the arena") {
    TraceData trace = test::random_logits({12, 4, 16}, 4, 3);
    trace.sequence = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2};
    Scenario scenario(trace);
    const Scenario shapes = small_scenario(1);
    for (const char* key : {"model", "memory", "execution"}) {
      scenario.config[key] = shapes.config[key];
    }
    scenario.config["cache"]["initial"] = "head";
    scenario.config["cache"]["reset"] = "sequence";
    check_same_work(scenario);
  }

  TEST_CASE("matrices of several panels, in every format") {
    for (const double bits : {16.0, 8.5, 4.5}) {
      for (const auto& [hidden, intermediate] : {std::pair{2080, 32}, std::pair{32, 2080}}) {
        Scenario scenario = small_scenario(3);
        scenario.config["model"]["hidden_size"] = hidden;
        scenario.config["model"]["moe_intermediate_size"] = intermediate;
        scenario.config["weights"] = {{"expert_bits", bits}, {"dense_bits", bits}};
        check_same_work(scenario);
      }
    }
  }

  TEST_CASE("blocks of 8 and 4 bits") {
    for (const double bits : {8.5, 4.5}) {
      Scenario scenario = small_scenario();
      scenario.config["weights"] = {{"expert_bits", bits}, {"dense_bits", bits}};
      check_same_work(scenario);
    }
  }

  TEST_CASE("layers without experts") {
    Scenario scenario = small_scenario();
    scenario.config["model"]["num_hidden_layers"] = 6;
    scenario.config["model"]["intermediate_size"] = 96;
    check_same_work(scenario);
  }

  TEST_CASE("outputs do not depend on threads, lanes, overlap or repetition") {
    Scenario scenario = small_scenario();
    const RealRun run(scenario);
    const Outcome first = run.decode();
    scenario.config["execution"] = {{"overlap", "projection"}, {"lanes", 4}, {"threads", 3}};
    CHECK(run.decode().outputs == first.outputs);
    CHECK(run.decode().outputs == first.outputs);
    scenario.config["trace"]["max_tokens"] = 15;
    CHECK(run.decode().outputs != first.outputs);
  }

  TEST_CASE("short reads and errors that pass change nothing") {
    const Scenario scenario = small_scenario();
    const RealRun run(scenario);
    std::atomic<unsigned> calls{0};
    ReaderOptions faulty;
    faulty.fault = [&calls](std::uint64_t, std::size_t, long answer) -> long {
      const unsigned call = calls++;
      if (call % 7 == 3) return -EIO;
      if (call % 5 == 1 && answer > 4096) return answer / 2;
      return answer;
    };
    const Outcome real = run.decode(faulty);
    CHECK(calls > 100);
    CHECK(real.outputs == run.reference());
    CHECK(first_difference(real.result, run.simulate()) == "");
  }

  TEST_CASE("an error that stays ends the run and names the file") {
    const Scenario scenario = small_scenario();
    const RealRun run(scenario);
    std::atomic<unsigned> calls{0};
    ReaderOptions faulty;
    faulty.fault = [&calls](std::uint64_t, std::size_t, long answer) -> long {
      return calls++ < 20 ? answer : -EIO;
    };
    const std::string message = test::user_error_of([&] { run.decode(faulty); });
    CHECK(test::contains(message, run.path().string()));
    CHECK(run.decode().outputs == run.reference());  // nothing is left behind
  }

  TEST_CASE("a reference over damaged weights is refused") {
    const Scenario scenario = small_scenario();
    const RealRun run(scenario);
    {
      std::fstream file(run.path(), std::ios::binary | std::ios::in | std::ios::out);
      for (std::size_t layer = 0; layer < 4; ++layer) {
        for (std::size_t expert = 0; expert < 16; ++expert) {
          file.seekp(static_cast<std::streamoff>(run.store().offset(layer, expert) + 100));
          file.put('\x55');
        }
      }
    }
    const std::string message = test::user_error_of([&] { (void)run.reference(); });
    CHECK(test::contains(message, "are not what was written"));
  }
}

}  // namespace moesim
