#include "trace/synthetic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "core/select.h"
#include "support/testing.h"
#include "support/traces.h"
#include "trace/locality.h"

namespace moesim::test {
namespace {

SyntheticOptions golden_options() {
  SyntheticOptions options;
  options.kind = SyntheticKind::kSegments;
  options.tokens = 256;
  options.layers = 1;
  options.experts = 16;
  options.k = 4;
  return options;
}

SyntheticOptions small_drift() {
  SyntheticOptions options;
  options.tokens = 400;
  options.layers = 3;
  options.experts = 16;
  options.k = 4;
  return options;
}

Trace trace_with(const SyntheticOptions& options) {
  return Trace::from_bytes(trace_image(synthetic_trace(options)), "synthetic");
}

double overlap_at(const SyntheticOptions& options, std::size_t lag) {
  return overlap(DecodeVisits::of(trace_with(options)), lag).share.value();
}

std::string error_with(const std::function<void(SyntheticOptions&)>& change) {
  SyntheticOptions options = small_drift();
  change(options);
  return user_error_of([&options] { (void)synthetic_trace(options); });
}

TEST_SUITE("trace/synthetic") {
  TEST_CASE("segments of seed 1 are the layer of the reference") {
    const Json checks = golden("synthetic_seed1.json")["checks"];
    const Trace trace = trace_with(golden_options());
    std::array<float, 16> row{};
    for (const Json& check : checks["logits"]) {
      trace.read_logits(check["token"].get<std::size_t>(), LayerId{0}, row);
      CHECK(row.at(check["expert"].get<std::size_t>()) == check["value"].get<double>());
    }
    for (const Json& check : checks["top_k"]) {
      trace.read_logits(check["token"].get<std::size_t>(), LayerId{0}, row);
      std::vector<std::size_t> best(4);
      select_top_k(std::span<const float>(row), std::span(best));
      CHECK(best == check["experts"].get<std::vector<std::size_t>>());
    }
    double range = 0;
    for (std::size_t token = 0; token < 256; ++token) {
      trace.read_logits(token, LayerId{0}, row);
      const auto [low, high] = std::minmax_element(row.begin(), row.end());
      range += static_cast<double>(*high) - static_cast<double>(*low);
    }
    CHECK(range / 256 == doctest::Approx(checks["mean_range"].get<double>()).epsilon(1e-9));
  }

  TEST_CASE("layer 0 of the segments does not depend on the layers that follow") {
    SyntheticOptions options = golden_options();
    const TraceData one = synthetic_trace(options);
    options.layers = 2;
    const TraceData two = synthetic_trace(options);
    for (std::size_t token = 0; token < options.tokens; ++token) {
      for (std::size_t expert = 0; expert < options.experts; ++expert) {
        CHECK(one.logits[token * 16 + expert] == two.logits[token * 32 + expert]);
      }
    }
  }

  TEST_CASE("equal options give equal bytes, another seed gives others") {
    SyntheticOptions options = small_drift();
    const auto image = trace_image(synthetic_trace(options));
    CHECK(image == trace_image(synthetic_trace(options)));
    options.seed = 2;
    CHECK(image != trace_image(synthetic_trace(options)));
  }

  TEST_CASE("persistence and locality raise the overlap, noise lowers it") {
    SyntheticOptions options = small_drift();
    options.skew = 0.0;
    const double base = overlap_at(options, 1);
    const double later = overlap_at(options, 8);
    CHECK(base > later + 0.05);
    options.persistence = 0.99;
    CHECK(overlap_at(options, 1) > base);
    CHECK(overlap_at(options, 8) > later + 0.05);
    options = small_drift();
    options.noise = 3.0;
    CHECK(overlap_at(options, 1) < base - 0.05);
    options.skew = 0.0;
    options.locality = 0.0;  // Independent draws: k / experts is left.
    CHECK(overlap_at(options, 1) == doctest::Approx(0.25).epsilon(0.06));
  }

  // Mean over tokens of the number of experts, in all layers, that the token before did not select.
  struct Surprise {
    double mean = 0;
    double variance = 0;
    double covariance = 0;  // of the two halves of the layers
  };
  static Surprise surprise_with(double burst) {
    SyntheticOptions options = small_drift();
    options.layers = 8;
    options.burst = burst;
    const Trace trace = trace_with(options);
    std::vector<std::array<double, 2>> news(options.tokens);
    std::vector<float> row(options.experts);
    for (std::size_t layer = 0; layer < options.layers; ++layer) {
      std::vector<std::size_t> last(options.k);
      for (std::size_t token = 0; token < options.tokens; ++token) {
        trace.read_logits(token, LayerId{static_cast<std::uint16_t>(layer)}, row);
        std::vector<std::size_t> best(options.k);
        select_top_k(std::span<const float>(row), std::span(best));
        for (const std::size_t id : best) {
          if (std::find(last.begin(), last.end(), id) == last.end()) ++news[token].at(layer % 2);
        }
        last = best;
      }
    }
    Surprise surprise;
    const auto tokens = static_cast<double>(options.tokens);
    std::array<double, 2> means{};
    for (const auto& halves : news) {
      means[0] += halves[0] / tokens;
      means[1] += halves[1] / tokens;
    }
    surprise.mean = means[0] + means[1];
    for (const auto& halves : news) {
      surprise.covariance += (halves[0] - means[0]) * (halves[1] - means[1]) / tokens;
      const double deviation = halves[0] + halves[1] - surprise.mean;
      surprise.variance += deviation * deviation / tokens;
    }
    return surprise;
  }

  TEST_CASE("bursts make some tokens more surprising than others, in all layers alike") {
    const Surprise even = surprise_with(0);
    const Surprise bursts = surprise_with(1.5);
    CHECK(bursts.variance > 2 * even.variance);
    CHECK(bursts.covariance > 4 * std::abs(even.covariance));
    CHECK(bursts.mean == doctest::Approx(even.mean).epsilon(0.3));
  }

  TEST_CASE("without bursts no byte changes, with them the provenance says so") {
    SyntheticOptions options = small_drift();
    const TraceData plain = synthetic_trace(options);
    options.burst = 0.0;
    CHECK(trace_image(synthetic_trace(options)) == trace_image(plain));
    CHECK(!contains(plain.metadata.at("provenance"), "burst"));
    options.burst = 0.7;
    const TraceData bursts = synthetic_trace(options);
    CHECK(bursts.logits != plain.logits);
    CHECK(contains(bursts.metadata.at("provenance"), ", noise 0.5, burst 0.7, seed 1"));
    CHECK(trace_image(synthetic_trace(options)) == trace_image(bursts));
  }

  TEST_CASE("bursts outside their range are refused") {
    for (const double burst : {-0.1, 3.1}) {
      CHECK(contains(error_with([&](SyntheticOptions& options) { options.burst = burst; }),
                     "synthetic trace: burst: expected a number in [0, 3], got "));
    }
    SyntheticOptions options = small_drift();
    options.burst = 3;
    for (const float logit : synthetic_trace(options).logits) CHECK_FALSE(std::isinf(logit));
  }

  TEST_CASE("skew makes some experts popular") {
    SyntheticOptions options = small_drift();
    options.skew = 0.0;
    options.persistence = 0.0;
    const auto sd = [](const SyntheticOptions& of) {
      return popularity(DecodeVisits::of(trace_with(of))).front().frequency_sd;
    };
    const double flat = sd(options);
    CHECK(flat < 0.05);
    options.skew = 2.0;
    CHECK(sd(options) > flat + 0.1);
  }

  TEST_CASE("sequences share the tokens, each with its prefill") {
    SyntheticOptions options = small_drift();
    options.tokens = 11;
    options.sequences = 3;
    options.prefill_tokens = 2;
    const TraceData data = synthetic_trace(options);
    CHECK(data.sequence == std::vector<std::int32_t>{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2});
    CHECK(data.phase == std::vector<std::uint8_t>{0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1});
    options.prefill_tokens = 0;
    CHECK(synthetic_trace(options).phase.empty());
  }

  TEST_CASE("the metadata say how the trace was made") {
    const Trace trace = trace_with(small_drift());
    CHECK(trace.provenance() ==
          "synthetic: drift, skew 0.5, locality 1, persistence 0.9, noise 0.5, seed 1");
    CHECK(trace.top_k() == 4);
    CHECK(trace.gate() == "B");
    CHECK(trace_with(golden_options()).provenance() == "synthetic: segments of 16 tokens, seed 1");
  }

  TEST_CASE("options that contradict each other") {
    using Options = SyntheticOptions;
    CHECK(error_with([](Options& o) { o.tokens = 0; }) ==
          "synthetic trace: tokens: expected an integer in [1, 2147483648], got 0");
    CHECK(error_with([](Options& o) { o.layers = 65536; }) ==
          "synthetic trace: layers: expected an integer in [1, 65535], got 65536");
    CHECK(error_with([](Options& o) { o.experts = 0; }) ==
          "synthetic trace: experts: expected an integer in [1, 65535], got 0");
    CHECK(error_with([](Options& o) {
            o.tokens = 60000;
            o.layers = 60000;
          }) ==
          "synthetic trace: tokens x layers x experts: expected an integer in [1, 2147483648], got "
          "57600000000");
    CHECK(error_with([](Options& o) { o.k = 17; }) ==
          "synthetic trace: top_k: expected an integer in [1, 16], got 17");
    CHECK(error_with([](Options& o) { o.sequences = 401; }) ==
          "synthetic trace: sequences: expected an integer in [1, 400], got 401");
    CHECK(error_with([](Options& o) { o.segment_tokens = 0; }) ==
          "synthetic trace: segment_tokens: expected an integer in [1, 2147483648], got 0");
    CHECK(error_with([](Options& o) { o.prefill_tokens = 400; }) ==
          "synthetic trace: prefill_tokens: expected less than the 400 tokens of a sequence, got "
          "400");
    CHECK(error_with([](Options& o) { o.persistence = 1.0; }) ==
          "synthetic trace: persistence: expected a number in [0, 1), got 1");
    CHECK(error_with([](Options& o) { o.skew = -1.0; }) ==
          "synthetic trace: skew: expected a number in [0, 1000], got -1");
    CHECK(contains(error_with([](Options& o) { o.locality = 1e9; }), "locality: expected"));
    CHECK(contains(error_with([](Options& o) { o.noise = -0.5; }), "noise: expected"));
  }
}

}  // namespace
}  // namespace moesim::test
