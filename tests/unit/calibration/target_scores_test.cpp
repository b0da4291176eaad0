#include "calibration/target_scores.h"

#include "support/testing.h"

namespace moesim::test {
namespace {

// A row with an error of its mean wall time and a simulated one.
TargetResult result_of(const std::string& id, double wall_error, const std::string& state = "cool",
                       const std::string& group = "g") {
  TargetResult result;
  result.row.id = id;
  result.row.state = state;
  result.row.group = group;
  result.simulated = {{"wall_ms", {{"mean", 100.0}}}, {"tok_s", 10.0}};
  result.error = {{"wall_ms", {{"mean", wall_error}}}, {"io_ms", 2 * wall_error}};
  return result;
}

TargetContrast contrast_of(const std::string& a, const std::string& b, double effect_pct) {
  return {"", "", a, b, "tok_s", effect_pct, true};
}

}  // namespace

TEST_SUITE("calibration/target_scores") {
  TEST_CASE("errors are relative, of hit rates in points, nested as the numbers are") {
    const Json measured = {{"io_ms", 200.0},      {"hit_pct", 70.0},
                           {"byte_hit_pct", 0.0}, {"stall_ms", 0.0},
                           {"mgmt_ms", nullptr},  {"text", "x"},
                           {"only_measured", 1},  {"wall_ms", {{"mean", 400.0}, {"p50", nullptr}}}};
    const Json simulated = {{"io_ms", 250.0},      {"hit_pct", 68.5},
                            {"byte_hit_pct", 1.0}, {"stall_ms", 3.0},
                            {"mgmt_ms", 1.0},      {"text", 4.0},
                            {"only_simulated", 1}, {"wall_ms", {{"mean", 300.0}, {"p50", 2.0}}}};
    const Json errors = target_errors(measured, simulated);
    CHECK(errors == Json{{"io_ms", 0.25},
                         {"hit_pct", -1.5},
                         {"byte_hit_pct", 1.0},
                         {"wall_ms", {{"mean", -0.25}}}});
    CHECK(target_errors({{"wall_ms", 3.0}}, {{"wall_ms", {{"mean", 3.0}}}}).empty());
  }

  TEST_CASE("errors token by token: median, mean and correlation by hand") {
    const PerTokenError error = per_token_error({100, 200, 100, 200}, {110, 180, 130, 200});
    CHECK(error.tokens == 4);
    CHECK(error.median_abs == doctest::Approx(0.1));  // 0, 0.1, 0.1, 0.3
    CHECK(error.mape == doctest::Approx(0.125));
    // Deviations (-50, 50, -50, 50) and (-45, 25, -25, 45).
    CHECK(error.correlation == doctest::Approx(7000.0 / std::sqrt(10000.0 * 5300.0)));
    CHECK(per_token_error({1, 2}, {3, 3}).correlation == 0);
    CHECK(per_token_error({1, 2, 4}, {1, 3, 5}).median_abs == doctest::Approx(0.25));
  }

  TEST_CASE("a contrast compares two rows where both have its metric") {
    std::vector<TargetResult> rows = {result_of("a", 0), result_of("b", 0), result_of("c", 0)};
    rows[1].simulated["tok_s"] = 12.0;
    rows[2].simulated = nullptr;
    std::vector<TargetContrast> contrasts = {contrast_of("a", "b", 5), contrast_of("a", "b", -5),
                                             contrast_of("a", "c", 5), contrast_of("c", "a", 5),
                                             contrast_of("a", "none", 5)};
    contrasts.push_back(contrast_of("a", "b", 5));
    contrasts.back().metric = "io_ms";
    const auto results = score_contrasts(contrasts, rows);
    REQUIRE(results.size() == 6);
    CHECK(results[0].simulated_pct.value() == doctest::Approx(20));
    CHECK(results[0].sign_right == true);
    CHECK(results[1].sign_right == false);
    for (std::size_t i = 2; i < 6; ++i) {
      CHECK(!results[i].simulated_pct);
      CHECK(!results[i].sign_right);
    }
  }

  TEST_CASE("a metric may fall to nothing but not rise from it") {
    std::vector<TargetResult> rows = {result_of("a", 0), result_of("b", 0)};
    rows[1].simulated["tok_s"] = 0.0;
    const auto results =
        score_contrasts({contrast_of("a", "b", -5), contrast_of("b", "a", 5)}, rows);
    CHECK(results[0].simulated_pct == -100);
    CHECK(results[0].sign_right == true);
    CHECK(!results[1].simulated_pct);
  }

  TEST_CASE("the summary takes medians over rows that count") {
    std::vector<TargetResult> rows = {
        result_of("a", 0.1, "cool", "g"), result_of("b", -0.3, "hot", "h"),
        result_of("c", 0.04, "hot", "g"), result_of("d", 0.9), result_of("e", 0.8, "pressure")};
    rows[3].fitted = true;
    rows[4].simulated = nullptr;
    rows[2].error.erase("io_ms");
    rows[0].error["compute_ms"] = -0.5;
    rows[1].error["io_ms_per_mib"] = 0.07;
    const auto contrasts =
        score_contrasts({contrast_of("a", "b", 5), contrast_of("a", "e", 5)}, rows);
    const TargetSummary summary = summarise(rows, contrasts);
    CHECK(summary.all.rows == 3);
    CHECK(summary.all.median_abs_wall.value() == doctest::Approx(0.1));
    CHECK(summary.all.largest_abs_wall.value() == doctest::Approx(0.3));
    CHECK(summary.all.median_abs_io.value() == doctest::Approx(0.4));  // of 0.2 and 0.6
    CHECK(summary.all.median_abs_compute.value() == doctest::Approx(0.5));
    CHECK(summary.all.median_abs_io_per_mib.value() == doctest::Approx(0.07));
    REQUIRE(summary.by_state.size() == 2);  // "pressure" has no row that counts
    CHECK(summary.by_state[0].name == "cool");
    CHECK(summary.by_state[0].rows == 1);
    CHECK(!summary.by_state[0].median_abs_io_per_mib);
    CHECK(summary.by_state[1].name == "hot");
    CHECK(summary.by_state[1].median_abs_wall.value() == doctest::Approx(0.17));
    REQUIRE(summary.by_group.size() == 2);
    CHECK(summary.by_group[0].name == "g");
    CHECK(summary.by_group[0].rows == 2);
    CHECK(summary.fitted == 1);
    CHECK(summary.not_simulated == 1);
    CHECK(summary.scored_contrasts == 2);
    CHECK(summary.right_signs == 0);  // equal speeds have no sign, the other is not simulated
    CHECK(!summary.largest_hit_difference);
  }

  TEST_CASE("contrasts that are not scored are not counted") {
    std::vector<TargetResult> rows = {result_of("a", 0), result_of("b", 0)};
    rows[1].simulated["tok_s"] = 20.0;
    std::vector<TargetContrast> contrasts = {contrast_of("a", "b", 5), contrast_of("a", "b", 5)};
    contrasts[1].score = false;
    const TargetSummary summary = summarise(rows, score_contrasts(contrasts, rows));
    CHECK(summary.scored_contrasts == 1);
    CHECK(summary.right_signs == 1);
  }

  TEST_CASE("the largest difference of hit rates is that of rows with their own routing") {
    std::vector<TargetResult> rows = {result_of("a", 0), result_of("b", 0), result_of("c", 0)};
    rows[0].error["hit_pct"] = -0.04;
    rows[1].error["hit_pct"] = 3.0;
    rows[0].row.route_trace = "a.csv";
    rows[2].row.route_trace = "c.csv";
    CHECK(summarise(rows, {}).largest_hit_difference.value() == doctest::Approx(0.04));
  }

  TEST_CASE("without any row that counts there is no median") {
    TargetResult result = result_of("a", 0.1);
    result.fitted = true;
    const TargetSummary summary = summarise({result}, {});
    CHECK(summary.all.rows == 0);
    CHECK(!summary.all.median_abs_wall);
    CHECK(!summary.all.largest_abs_wall);
    CHECK(summary.by_state.empty());
  }
}

}  // namespace moesim::test
