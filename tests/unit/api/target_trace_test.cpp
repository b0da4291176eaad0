#include "api/target_trace.h"

#include <fstream>
#include <functional>

#include "api/run.h"
#include "api/target_simulation.h"
#include "support/targets.h"
#include "trace/trace.h"

namespace moesim::test {
namespace {

// What TargetTraces::conditioned() wants: the row without a device.
Json plain_config(const TargetRow& row) {
  Json config = target_config(row, target_device(), model_of(row), TargetTraces::kFile).config;
  config["device"] = nullptr;
  for (const char* key : {"prefetch", "execution", "memory"}) config.erase(key);
  return config;
}

TargetRow cached_row(double byte_hit_pct) {
  return target_row([&](Json& row) {
    row["cache_mib"] = 800;
    row["tokens"] = 60;
    row["measured"]["byte_hit_pct"] = byte_hit_pct;
  });
}

constexpr double kRoutedBytes = 4.0 * (8 * 3e6 + 8 * 4e6);

// Bytes a token after the dropped ones, of the trace in the folder.
double bytes_read(const TargetRow& row, const std::filesystem::path& folder) {
  const auto plan = plan_run({plain_config(row), "c.json", folder, {}});
  ExecuteOptions options;
  options.keep_rows = true;
  options.with_bounds = false;
  const RunResult run = execute(*plan, options);
  double bytes = 0;
  for (std::size_t i = row.tokens_dropped; i < run.rows.size(); ++i) {
    bytes += static_cast<double>(run.rows[i].read_bytes);
  }
  return bytes / static_cast<double>(run.rows.size() - row.tokens_dropped);
}

std::string unsupported(const std::function<void()>& action) {
  try {
    action();
  } catch (const UnsupportedRow& reason) {
    return reason.what();
  }
  FAIL_CHECK("expected an UnsupportedRow");
  return "";
}

}  // namespace

TEST_SUITE("api/target_trace") {
  TEST_CASE("what a row read is its bytes less the padding of its reads") {
    const auto bytes = [](const ChangeRow& change) {
      return TargetTraces::measured_bytes(target_row(change));
    };
    const double read = 214.4 * (1 << 20);
    CHECK(*bytes([](Json& row) { row["expert_layout"] = "contiguous"; }) == doctest::Approx(read));
    // 64 experts a token of 3 reads with 4 KiB each, over 224 MB.
    CHECK(*bytes([](Json&) {}) == doctest::Approx(read / (1 + 3 * 4096.0 * 64 / kRoutedBytes)));
    CHECK(*bytes([](Json& row) { row["reads_per_expert"] = 2; }) ==
          doctest::Approx(read / (1 + 2 * 4096.0 * 64 / kRoutedBytes)));
    CHECK(*bytes([](Json& row) { row["reads_per_expert"] = nullptr; }) ==
          doctest::Approx(read / (1 + 3 * 4096.0 * 64 / kRoutedBytes)));
    CHECK(*bytes([](Json& row) { row["measured"]["byte_hit_pct"] = 75; }) ==
          doctest::Approx(0.25 * kRoutedBytes));
    CHECK(!bytes([](Json& row) { row["measured"]["mib_per_token"] = nullptr; }));
  }

  TEST_CASE("the padding of a read of an expert counts its slices") {
    TargetRow row = target_row();
    CHECK(padding_bytes(row) == 3 * 4096);
    row.reads_per_expert = 2;
    CHECK(padding_bytes(row) == 2 * 4096);
    row.reads_per_expert = 1;
    CHECK(padding_bytes(row) == 0);
  }

  TEST_CASE("conditioning hits the measured bytes to 0.2 %") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    double noise = 0;
    for (const double hit : {60.0, 40.0}) {
      const TargetRow row = cached_row(hit);
      const RowTrace trace = traces.conditioned(row, plain_config(row));
      CHECK(trace.file == TargetTraces::kFile);
      CHECK(contains(trace.standin, "synthetic routing, conditioned on the bytes read (noise "));
      CHECK(trace.noise.value() > noise);  // fewer hits take more noise
      noise = trace.noise.value();
      CHECK(bytes_read(row, folder.path()) ==
            doctest::Approx((1 - hit / 100) * kRoutedBytes).epsilon(0.002));
    }
  }

  TEST_CASE("rows that differ in nothing that decides it have one routing") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    TargetRow row = cached_row(50);
    const RowTrace first = traces.conditioned(row, plain_config(row));
    row.lanes = 2;
    row.overlap = true;
    CHECK(traces.conditioned(row, plain_config(row)).noise == first.noise);
    row.cache_mib = 900;
    CHECK(traces.conditioned(row, plain_config(row)).noise != first.noise);
  }

  TEST_CASE(
      "experts that weigh little and are dropped are conditioned on bytes with no cache too") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    const TargetRow row = target_row([](Json& json) {
      json["tokens"] = 60;
      json["drop_cold_frac"] = 0.9;
      json["measured"]["byte_hit_pct"] = 58;
    });
    (void)traces.conditioned(row, plain_config(row));
    CHECK(bytes_read(row, folder.path()) == doctest::Approx(0.42 * kRoutedBytes).epsilon(0.002));
  }

  TEST_CASE("fewer bytes than the least noise reads take the least noise, which says so") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    for (const double hit : {100.0, 99.9}) {
      const TargetRow row = cached_row(hit);
      const RowTrace trace = traces.conditioned(row, plain_config(row));
      CHECK(!trace.meets_bytes);
      CHECK(trace.noise.value() == doctest::Approx(0.02));
      CHECK(contains(trace.standin, "synthetic routing, the one that reads least (noise 0.020): "));
      CHECK(contains(trace.standin, hit == 100 ? "not the measured 0.0" : "not the measured 0.2"));
    }
    const TargetRow row = cached_row(50);
    CHECK(traces.conditioned(row, plain_config(row)).meets_bytes);
  }

  TEST_CASE("with a device what is read ahead is conditioned on as well") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    TargetRow row = cached_row(50);
    row.prefetch = true;
    const Json config =
        target_config(row, target_device(), model_of(row), TargetTraces::kFile).config;
    const auto numbers = [&] { return simulate_row(row, config, folder.path()).numbers; };
    const RowTrace trace = traces.conditioned(row, config);
    CHECK(trace.meets_bytes);
    CHECK(numbers()["byte_hit_pct"].get<double>() == doctest::Approx(50).epsilon(0.002));
    row.measured["mib_per_token"] = 1;
    const double read = 0.5 * (kRoutedBytes + 64 * 3 * 4096);  // padded whether ahead or not
    CHECK(numbers()["mib_per_token"].get<double>() ==
          doctest::Approx(read / (1 << 20)).epsilon(0.003));
    const double without = traces.conditioned(row, plain_config(row)).noise.value();
    CHECK(without > 1.02 * trace.noise.value());  // wrong guesses are read, too
  }

  TEST_CASE("rows that drop experts are conditioned by how equal the weights are as well") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    const auto dropping = [](double byte_hit_pct) {
      return target_row([&](Json& json) {
        json["tokens"] = 60;
        json["drop_cold_frac"] = 0.9;
        json["measured"]["byte_hit_pct"] = byte_hit_pct;
      });
    };
    double temperature_text = 0;
    for (const double hit : {60.0, 20.0}) {
      const TargetRow row = dropping(hit);
      const RowTrace trace = traces.softened(row, plain_config(row), 0.8);
      CHECK(trace.meets_bytes);
      CHECK(trace.noise.value() == 0.8);
      CHECK(bytes_read(row, folder.path()) ==
            doctest::Approx((1 - hit / 100) * kRoutedBytes).epsilon(0.002));
      const std::string name = "temperature ";
      const double temperature =
          std::stod(trace.standin.substr(trace.standin.find(name) + name.size()));
      CHECK(temperature > temperature_text);  // more equal weights drop fewer
      temperature_text = temperature;
    }
    const TargetRow none = dropping(100);
    CHECK(contains(traces.softened(none, plain_config(none), 0.8).standin,
                   "the one that reads least (noise 0.800, temperature 0.050): "));
    TargetRow few = dropping(97);
    few.cache_mib = 400;
    few.drop_cold_frac = 0.5;
    CHECK(contains(traces.softened(few, plain_config(few), 0.8).standin,
                   "the one that reads least (noise 0.020): "));
    const TargetRow many = dropping(-20);
    CHECK(contains(unsupported([&] { (void)traces.softened(many, plain_config(many), 0.8); }),
                   "no synthetic routing reads the measured 256.3 MiB a token"));
    CHECK(contains(unsupported([&] { (void)traces.conditioned(none, plain_config(none)); }),
                   "no synthetic routing reads the measured 0.0 MiB a token"));
  }

  TEST_CASE("bytes that no routing reads make the row unsupported") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    TargetRow row = cached_row(-20);  // more than is routed
    CHECK(unsupported([&] { (void)traces.conditioned(row, plain_config(row)); }) ==
          "no synthetic routing reads the measured 256.3 MiB a token");
  }

  TEST_CASE("a synthetic routing has the row's shape, prompt, k and sizes") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    const TargetRow row = target_row();
    CHECK(traces.any(row).standin.empty());
    const Trace trace = Trace::open(folder.path() / TargetTraces::kFile, "routing");
    CHECK(trace.shape().tokens == 24);
    CHECK(trace.shape().layers == 16);
    CHECK(trace.shape().experts == 64);
    CHECK(traces.like(row, 0.5, "Q").standin == "synthetic routing with the locality of Q");
  }

  TEST_CASE("a recording is imported, and its absence is told") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path(), folder.path());
    TargetRow row = target_row([](Json& json) { json["route_trace"] = "r.csv"; });
    CHECK(contains(unsupported([&] { (void)traces.recorded(row); }),
                   "its recorded routing is not there: "));
    std::ofstream(folder.path() / "r.csv") << "# something else\n";
    CHECK(contains(user_error_of([&] { (void)traces.recorded(row); }), "r.csv:1: expected "));
  }

  TEST_CASE("a row's id does not decide where anything is written") {
    const TemporaryFolder folder;
    TargetTraces traces(folder.path() / "inner", folder.path());
    std::filesystem::create_directory(folder.path() / "inner");
    TargetRow row = target_row([](Json& json) { json["id"] = "../escaped"; });
    (void)traces.any(row);
    CHECK(std::filesystem::exists(folder.path() / "inner" / TargetTraces::kFile));
    CHECK(!std::filesystem::exists(folder.path() / "escaped.safetensors"));
  }
}

}  // namespace moesim::test
