#include "calibration/engine_rows.h"

#include <cmath>

#include "calibration/flash_fit.h"
#include "core/files.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/engine_rows") {
  FlashSpec two_gbps() {
    FlashSpec spec;
    spec.bw_gbps = 2;
    spec.host_delay_us = 100;
    spec.qd_limit = 8;
    return spec;
  }

  // One lane, one read of 500 us and 100 us on the host per expert.
  EngineRow one_lane() {
    EngineRow row;
    row.name = "row";
    row.layers = {{10, {1'000'000}}};
    row.experts_per_token = 4;
    row.io_ms = 1;
    return row;
  }

  TEST_CASE("without a cache every expert of every layer is read") {
    EngineRow row = one_lane();
    CHECK(engine_io_ms(two_gbps(), row) == doctest::Approx(10 * 4 * 0.6));
    row.layers.push_back({2, {500'000, 500'000}});
    CHECK(engine_io_ms(two_gbps(), row) == doctest::Approx(10 * 4 * 0.6 + 2 * 4 * 2 * 0.35));
    row.lanes = 8;  // the device alone, after the first host delay
    CHECK(engine_io_ms(two_gbps(), row) == doctest::Approx(10 * (0.1 + 2.0) + 2 * (0.1 + 2.0)));
  }

  TEST_CASE("with a cache the time is the expectation over what misses") {
    EngineRow row = one_lane();
    row.read_fraction = 0.25;  // linear on one lane: the mean number of misses counts
    CHECK(engine_io_ms(two_gbps(), row) == doctest::Approx(10 * 1 * 0.6));
    row.lanes = 8;  // 0.1 where anything is missing, and 0.5 for each
    CHECK(engine_io_ms(two_gbps(), row) ==
          doctest::Approx(10 * (0.1 * (1 - std::pow(0.75, 4)) + 0.5)));
  }

  TEST_CASE("a bounced row pays for the copy, a slower clock for host and copy") {
    FlashSpec bounced = two_gbps();
    bounced.bounce_gbps = 2.5;
    EngineRow row = one_lane();
    CHECK(engine_io_ms(bounced, row) == doctest::Approx(10 * 4 * 0.6));
    row.bounce = true;
    CHECK(engine_io_ms(bounced, row) == doctest::Approx(10 * 4 * 1.0));
    row.clock = 0.5;
    CHECK(engine_io_ms(bounced, row) == doctest::Approx(10 * 4 * (0.2 + 0.5 + 0.8)));
  }

  TEST_CASE("a bounce rate is found from rows with a copy beside a table without one") {
    FlashSpec known = two_gbps();
    known.dev_cmd_us = 15;
    known.bounce_gbps = 2.4;
    known.qd_limit = 64;
    FlashTable table;
    for (const std::uint64_t kib : {128U, 512U, 2048U}) {
      for (const std::size_t lanes : {1U, 2U, 8U}) {
        table.push_back({kib * 1024, lanes, simulate_throughput(known, kib * 1024, lanes)});
      }
    }
    FlashFitOptions options;
    options.bounce_gbps.reset();
    for (const double share : {1.0, 0.3}) {
      EngineRow row = one_lane();
      row.lanes = 4;
      row.layers = {{24, {900'000, 900'000, 900'000}}};
      row.bounce = true;
      row.read_fraction = share;
      row.io_ms = engine_io_ms(known, row);
      options.engine_rows.push_back(row);
    }
    const FlashFit fit = fit_flash(table, options, "t.csv");
    CHECK(fit.bounce_gbps == doctest::Approx(2.4).epsilon(0.03));
    CHECK(fit.host_delay_us == doctest::Approx(100).epsilon(0.02));
    CHECK(fit.bw_gbps == doctest::Approx(2).epsilon(0.01));
    CHECK(fit.rms < 0.005);
    CHECK(fit.engine_rms < 0.005);
    REQUIRE(fit.engine_rows.size() == 2);
    CHECK(fit.engine_rows[0].simulated_ms ==
          doctest::Approx(fit.engine_rows[0].measured.io_ms).epsilon(0.01));
    // Rows without weight are shown and leave the other values as the table alone has them.
    options.bounce_gbps = 2.4;
    options.rows_weight = 0;
    options.engine_rows[0].io_ms *= 3;
    const FlashFit unmoved = fit_flash(table, options, "t.csv");
    const FlashFit alone = fit_flash(table, {}, "t.csv");
    CHECK(unmoved.host_delay_us == alone.host_delay_us);
    CHECK(unmoved.bw_gbps == alone.bw_gbps);
    CHECK(unmoved.engine_rows[0].error < -0.6);
  }

  TEST_CASE("options that cannot be are refused") {
    const FlashTable table(5, {4096, 1, 1e8});
    FlashFitOptions options;
    options.bounce_gbps.reset();
    CHECK(user_error_of([&] { fit_flash(table, options, "t.csv"); }) ==
          "bounce_gbps: expected a rate, because no engine row with bounce tells one");
    options.bounce_gbps = -1;
    CHECK(user_error_of([&] { fit_flash(table, options, "t.csv"); }) ==
          "bounce_gbps: expected a number in [0, 1000000], got -1");
    options.bounce_gbps = 0;
    options.rows_weight = -2;
    CHECK(contains(user_error_of([&] { fit_flash(table, options, "t.csv"); }),
                   "rows_weight: expected a number >= 0, got -2"));
  }

  TEST_CASE("a file of rows is read, and what is wrong in it is named") {
    TemporaryFolder folder;
    const auto path = folder.path() / "rows.json";
    const auto read = [&](const std::string& text) {
      write_file_atomically(path, [&](std::ostream& out) { out << text; });
      return read_engine_rows(path, "rows.json");
    };
    const auto rows = read(R"([{"name": "C1", "lanes": 4, "experts_per_token": 8, "io_ms": 463,
                                "read_fraction": 0.5, "bounce": true, "clock": 0.8,
                                "layers": [{"count": 24, "reads": [884736, 884736]}]}])");
    REQUIRE(rows.size() == 1);
    CHECK(rows[0].name == "C1");
    CHECK(rows[0].lanes == 4);
    CHECK(rows[0].experts_per_token == 8);
    CHECK(rows[0].io_ms == 463);
    CHECK(rows[0].read_fraction == 0.5);
    CHECK(rows[0].bounce);
    CHECK(rows[0].clock == 0.8);
    CHECK(rows[0].layers[0].count == 24);
    CHECK(rows[0].layers[0].reads == std::vector<std::uint64_t>{884736, 884736});
    CHECK(user_error_of([&] { read("[]"); }) == "rows.json: expected an array of rows, got []");
    const std::string head = R"([{"name": "x", "lanes": 1, "experts_per_token": 1, "io_ms": 1, )";
    CHECK(user_error_of([&] { read(head + R"("layers": 3}])"); }) ==
          "rows.json: /0/layers: expected an array of {count, reads}, got 3");
    CHECK(user_error_of([&] { read(head + R"("layers": [{"reads": []}]}])"); }) ==
          "rows.json: /0/layers/0/reads: expected the bytes of at least one read, got []");
    CHECK(contains(user_error_of([&] { read(head + R"("layers": [{"reads": [0]}]}])"); }),
                   "rows.json: /0/layers/0/reads"));
    CHECK(contains(user_error_of([&] { read(head + R"("layers": [{"reads": [1]}], "k": 2}])"); }),
                   "rows.json: /0/k: unknown key"));
    CHECK(contains(
        user_error_of([&] { read(head + R"("layers": [{"reads": [1]}], "read_fraction": 0}])"); }),
        "rows.json: /0/read_fraction: expected a number in (0, 1], got 0"));
  }
}

}  // namespace moesim::test
