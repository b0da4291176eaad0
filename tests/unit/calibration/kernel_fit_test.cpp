#include "calibration/kernel_fit.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "calibration/kernel_curve_fit.h"
#include "core/rng.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

using Law = std::function<double(const KernelSample&)>;

double bytes_of_weights(const KernelSample& sample) {
  return static_cast<double>(kernel_row_bytes(sample.format, sample.columns)) *
         static_cast<double>(sample.rows);
}

double roofline(const KernelSample& sample) { return 4e-6 + bytes_of_weights(sample) / 12e9; }

// Twice as fast in a cache of 2 MiB, slower with narrow matrices.
double shaped(const KernelSample& sample) {
  const double bytes = bytes_of_weights(sample);
  const double in_cache = 1 / (1 + std::pow(bytes / 2097152, 2));
  const double narrow = 1 + 100.0 / static_cast<double>(sample.columns);
  return 4e-6 + bytes / 12e9 * narrow * (1 - 0.5 * in_cache);
}

// Every shape of a grid of 6 x 4, three times each, with log-normal noise.
std::vector<KernelSample> samples_of(const Law& law, double noise,
                                     const std::string& format = "f16", std::size_t threads = 2) {
  Rng rng(7);
  std::vector<KernelSample> samples;
  samples.reserve(72);
  for (const std::size_t rows : {128, 512, 1024, 2048, 4096, 16384}) {
    for (const std::size_t columns : {256, 768, 2048, 4096}) {
      for (int repeat = 0; repeat < 3; ++repeat) {
        KernelSample sample{format, rows, columns, threads, 0};
        sample.seconds = law(sample) * std::exp(noise * rng.normal());
        samples.push_back(sample);
      }
    }
  }
  return samples;
}

// Fitted once, because several tests look at it.
const KernelFit& shaped_fit() {
  static const KernelFit kFit = fit_kernel_model(samples_of(shaped, 0.01));
  return kFit;
}

void check_better(const KernelErrors& model, const KernelErrors& other, double share) {
  CHECK(model.log_rmse < share * other.log_rmse);
  CHECK(model.median_ape < other.median_ape);
  CHECK(model.p95_ape < share * other.p95_ape);
}

}  // namespace

TEST_SUITE("calibration/kernel_fit") {
  TEST_CASE("a roofline without noise is found, and no features besides") {
    const KernelFit fit = fit_kernel_model(samples_of(roofline, 0));
    REQUIRE(fit.model.curves().size() == 1);
    const KernelCurve& curve = fit.model.curves()[0];
    CHECK(curve.residual.empty());
    CHECK(curve.launch_us == doctest::Approx(4).epsilon(5e-3));
    CHECK(curve.rate_gbps == doctest::Approx(12).epsilon(1e-3));
    CHECK(fit.quality.all.model.log_rmse < 1e-3);
    CHECK(fit.quality.all.model.spearman > 0.99);
  }

  TEST_CASE("a roofline with 1 % of noise is found within the noise") {
    const KernelFit fit = fit_kernel_model(samples_of(roofline, 0.01));
    const KernelCurve& curve = fit.model.curves()[0];
    CHECK(curve.rate_gbps == doctest::Approx(12).epsilon(0.02));
    CHECK(curve.launch_us == doctest::Approx(4).epsilon(0.1));
    CHECK(fit.quality.all.model.log_rmse < 0.015);
    for (const KernelSample& sample : samples_of(roofline, 0)) {
      CHECK(curve.seconds({sample.rows, sample.columns}) ==
            doctest::Approx(sample.seconds).epsilon(0.02));
    }
  }

  TEST_CASE("an effect of the shape is learned: held-out errors beat both baselines") {
    const KernelFit& fit = shaped_fit();
    const KernelScores& scores = fit.quality.all;
    CHECK(scores.shapes == 24);
    CHECK(scores.samples == 72);
    check_better(scores.model, scores.constant_rate, 0.5);
    check_better(scores.model, scores.roofline, 0.5);
    CHECK(scores.model.log_rmse < 0.1);
    CHECK(scores.model.spearman > 0.99);
    // A shape that was not measured.
    const KernelSample between{"f16", 3000, 1408, 2, 0};
    CHECK(fit.model.covers("f16", 3000, 1408, 2));
    CHECK(fit.model.seconds("f16", 3000, 1408, 2) ==
          doctest::Approx(shaped(between)).epsilon(0.05));
  }

  TEST_CASE("held-out errors are of fits that did not see the shape") {
    const auto slow_shape = [](const KernelSample& sample) {
      const bool odd = sample.rows == 1024 && sample.columns == 768;
      return roofline(sample) * (odd ? 2.0 : 1.0);
    };
    const KernelErrors plain = fit_kernel_model(samples_of(roofline, 0.01)).quality.all.model;
    const KernelFit fit = fit_kernel_model(samples_of(slow_shape, 0.01));
    const KernelErrors& odd = fit.quality.all.model;
    // One of 24 shapes is off by log 2, at the least: others know nothing of it.
    CHECK(odd.log_rmse > 0.9 * std::log(2.0) / std::sqrt(24.0));
    CHECK(plain.log_rmse < 0.2 * odd.log_rmse);
    CHECK(odd.median_ape < 0.05);
  }

  TEST_CASE("times that something else spoilt do not bend the curve") {
    std::vector<KernelSample> samples = samples_of(roofline, 0.01);
    for (std::size_t i = 0; i < samples.size(); i += 30) {
      for (std::size_t j = i; j < i + 3; ++j) samples[j].seconds *= 3;  // all of a shape
    }
    const KernelModel model = fit_kernel_model(samples).model;
    for (const std::size_t rows : {512, 2048, 16384}) {
      const KernelSample sample{"f16", rows, 2048, 2, 0};
      CHECK(model.seconds("f16", rows, 2048, 2) == doctest::Approx(roofline(sample)).epsilon(0.04));
    }
  }

  TEST_CASE("a curve of a roofline extrapolates it, and sets of features are small") {
    std::vector<ShapePoint> points;
    for (const KernelSample& sample : samples_of(roofline, 0)) {
      points.push_back(
          {{sample.rows, sample.columns}, bytes_of_weights(sample), std::log(sample.seconds)});
    }
    const KernelCurve curve = fit_best_kernel_curve({"f16", 2}, points);
    CHECK(curve.seconds({100000, 4096}) ==
          doctest::Approx(4e-6 + 100000.0 * 8192 / 12e9).epsilon(1e-3));
    CHECK(kernel_feature_sets().front().empty());
    for (const std::vector<std::size_t>& set : kernel_feature_sets()) CHECK(set.size() <= 7);
  }

  TEST_CASE("formats and thread counts have curves of their own") {
    std::vector<KernelSample> samples = samples_of(roofline, 0.01);
    const auto twice = [](const KernelSample& sample) { return 2 * roofline(sample); };
    for (const auto& [format, threads] : {std::pair{"q4", 2}, std::pair{"f16", 1}}) {
      const auto more = samples_of(twice, 0.01, format, static_cast<std::size_t>(threads));
      samples.insert(samples.end(), more.begin(), more.end());
    }
    const KernelFit fit = fit_kernel_model(samples);
    REQUIRE(fit.quality.curves.size() == 3);
    CHECK(fit.quality.curves[0].format == "f16");
    CHECK(fit.quality.curves[0].threads == 1);
    CHECK(fit.quality.curves[2].format == "q4");
    CHECK(fit.quality.curves[2].scores.samples == 72);
    CHECK(fit.quality.all.samples == 3 * 72);
    CHECK(fit.quality.all.shapes == 24);
    CHECK(fit.model.seconds("f16", 2048, 2048, 1) ==
          doctest::Approx(2 * fit.model.seconds("f16", 2048, 2048, 2)).epsilon(0.03));
    const KernelSample q4{"q4", 2048, 2048, 2, 0};
    CHECK(fit.model.seconds("q4", 2048, 2048, 2) == doctest::Approx(twice(q4)).epsilon(0.03));
  }

  TEST_CASE("the order of the samples does not matter, and nothing is random") {
    std::vector<KernelSample> samples = samples_of(shaped, 0.01);
    const KernelFit& fit = shaped_fit();
    std::reverse(samples.begin(), samples.end());
    const KernelFit again = fit_kernel_model(samples);
    CHECK(kernel_model_json(again.model) == kernel_model_json(fit.model));
    CHECK(kernel_quality_json(again.quality).at("all").at("model").at("log_rmse").get<double>() ==
          doctest::Approx(fit.quality.all.model.log_rmse));
  }

  TEST_CASE("a device file holds the model without loss") {
    const KernelFit& fit = shaped_fit();
    const Json json = kernel_model_json(fit.model);
    const KernelModel read = read_kernel_model(Section(parse_json(json.dump(), "m"), "m", ""));
    CHECK(kernel_model_json(read) == json);
    CHECK(read.seconds("f16", 1000, 1000, 2) == fit.model.seconds("f16", 1000, 1000, 2));
  }

  TEST_CASE("a report of the quality has all of it") {
    const KernelFit& fit = shaped_fit();
    const Json json = kernel_quality_json(fit.quality);
    CHECK(json.at("all").at("shapes") == 24);
    CHECK(json.at("all").at("roofline").at("p95_ape") == fit.quality.all.roofline.p95_ape);
    REQUIRE(json.at("curves").size() == 1);
    CHECK(json.at("curves")[0].at("format") == "f16");
    CHECK(json.at("curves")[0].at("threads") == 2);
    CHECK(json.at("curves")[0].at("constant_rate").at("median_ape") ==
          fit.quality.curves[0].scores.constant_rate.median_ape);
  }

  TEST_CASE("times that do not vary have no rank correlation") {
    std::vector<KernelSample> samples;
    for (const std::size_t rows : {64, 128, 256, 512}) samples.push_back({"q8", rows, 64, 1, 1e-5});
    CHECK(fit_kernel_model(samples).quality.all.model.spearman == 0);
  }

  TEST_CASE("samples that are none, and too few shapes, are refused") {
    const auto error = [](const std::vector<KernelSample>& samples) {
      return user_error_of([&] { fit_kernel_model(samples); });
    };
    const KernelSample right{"f16", 64, 64, 1, 1e-6};
    CHECK(error({}) == "kernel samples: expected some, got none");
    CHECK(error({right, {"q5", 64, 64, 1, 1e-6}}) ==
          "kernel sample 1: expected one of f16, q8, q4 as format, got \"q5\"");
    CHECK(error({{"f16", 0, 64, 1, 1e-6}}) ==
          "kernel sample 0: expected rows, columns and threads above 0, got 0, 64 and 1");
    CHECK(error({{"f16", 64, 64, 1, 0}}) == "kernel sample 0: expected a time above 0 s, got 0");
    CHECK(error({{"f16", 64, 64, 1, std::nan("")}}) ==
          "kernel sample 0: expected a time above 0 s, got nan");
    CHECK(error({right, right, {"f16", 128, 64, 1, 1e-6}}) ==
          "kernel samples: expected at least 4 shapes (rows x columns) of f16 with 1 threads, got "
          "2");
  }
}

}  // namespace moesim::test
