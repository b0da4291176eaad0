// `sim sweep`: the grid of all values of --vary, one result line a point.
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "api/sweep.h"
#include "command.h"
#include "core/errors.h"

namespace moesim::cli {
namespace {

constexpr int kKilledBySignal = 128;

// Ends the program when it is interrupted, between two lines. While it lives no other thread hears
// of these signals; threads made meanwhile do not either.
class InterruptGuard {
 public:
  explicit InterruptGuard(std::string advice) : advice_(std::move(advice)) {
    sigemptyset(&signals_);
    sigaddset(&signals_, kEnd);
    for (const int signal : {SIGINT, SIGTERM}) {
      struct sigaction now {};
      sigaction(signal, nullptr, &now);
      if (now.sa_handler != SIG_IGN) sigaddset(&signals_, signal);  // as nohup and & in a script
    }
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
    thread_ = std::thread([this] { wait(); });
  }
  ~InterruptGuard() {
    pthread_kill(thread_.native_handle(), kEnd);
    thread_.join();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;

  // From now on no line is cut. To be called once.
  void watch(std::shared_ptr<Sweep> sweep) {
    kept_ = std::move(sweep);
    sweep_ = kept_.get();
  }

 private:
  static constexpr int kEnd = SIGUSR1;

  void wait() {
    int signal = 0;
    if (sigwait(&signals_, &signal) != 0 || signal == kEnd) return;
    Sweep* sweep = sweep_;
    std::unique_lock<std::mutex> pause;
    if (sweep != nullptr) pause = sweep->pause();
    fmt::print(stderr, "\nsim: interrupted; {}\n", sweep != nullptr ? advice_ : "nothing was run");
    _exit(kKilledBySignal + signal);
  }

  std::string advice_;
  sigset_t signals_{};
  sigset_t before_{};
  std::shared_ptr<Sweep> kept_;
  std::atomic<Sweep*> sweep_ = nullptr;
  std::thread thread_;
};

// "\r12 of 66 points, 3.4 a second, 0:16 left".
class StatusLine {
 public:
  explicit StatusLine(std::size_t missing)
      : missing_(missing), start_(std::chrono::steady_clock::now()) {}

  void show(std::size_t done) const {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    const double rate = static_cast<double>(done) / std::max(elapsed.count(), 1e-9);
    const auto left = std::lround(static_cast<double>(missing_ - done) / rate);
    fmt::print(stderr, "\r{} of {} points, {:.3g} a second, {}:{:02} left   ", done, missing_, rate,
               left / 60, left % 60);
    std::fflush(stderr);
  }
  static void clear() { fmt::print(stderr, "\r{:60}\r", ""); }

 private:
  std::size_t missing_;
  std::chrono::steady_clock::time_point start_;
};

void run_sweep(const SweepOptions& options) {
  InterruptGuard guard(
      fmt::format("the same command with --resume goes on with {}", options.out.string()));
  const auto owned = std::make_shared<Sweep>(options);
  guard.watch(owned);
  Sweep& sweep = *owned;
  if (options.resume) {
    fmt::print(stderr, "sim: {} of {} points were there\n", sweep.found(), sweep.points());
  }
  const bool terminal = isatty(STDERR_FILENO) == 1;
  const StatusLine status(sweep.points() - sweep.found());
  sweep.run([&](std::size_t done) {
    if (terminal) status.show(done);
  });
  if (terminal) StatusLine::clear();
  write_sweep_table(sweep.rows(), std::cout);
}

}  // namespace

void add_sweep_command(CLI::App& app) {
  auto options = std::make_shared<SweepOptions>();
  options->jobs = std::max(1U, std::thread::hardware_concurrency());
  CLI::App* sweep = app.add_subcommand("sweep", "simulate the grid of several values");
  sweep->add_option("--config", options->config, "the configuration, a JSON file (docs/config.md)")
      ->type_name("FILE")
      ->required();
  sweep
      ->add_option("--vary", options->vary,
                   "a key and its values, as in --vary /cache/capacity_mib=1000,2000, "
                   "/cache/capacity_experts=8:32:8 (FROM:TO:STEP) or /cache=[{...},{...}]; repeat "
                   "for all combinations")
      ->type_name("PTR=VALUES")
      ->required()
      ->allow_extra_args(false);
  sweep
      ->add_option("--set", options->overrides,
                   "override one key of the configuration for all points; repeat for more")
      ->type_name("PTR=VALUE")
      ->allow_extra_args(false);
  sweep->add_option("--out", options->out, "write one result a line into this file")
      ->type_name("FILE.jsonl")
      ->required();
  sweep->add_option("--jobs", options->jobs, "points at a time")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  sweep->add_flag("--resume", options->resume, "keep what the file has and run what is missing");
  sweep->callback([options] { run_sweep(*options); });
}

}  // namespace moesim::cli
