// Predictors on the recorded phone traces: the shares that cache_aware_routing.md 7.3 quotes.
#include "cache/path_predictor.h"
#include "engine/forecast.h"
#include "metrics/prediction_quality.h"
#include "support/testing.h"
#include "trace/importers/importer.h"
#include "trace/trace.h"
#include "trace/trace_writer.h"

namespace moesim::test {
namespace {

std::optional<Trace> phone_trace(const std::string& name) {
  const auto path = third_party("raw_traces/Helldez__BigMoeOnEdge/" + name + ".route.csv");
  if (!path) return std::nullopt;
  ImportRequest request;
  request.inputs = {*path};
  return Trace::from_bytes(trace_image(import_trace("bigmoeonedge", request).data), name);
}

// Recall in percent over the decoded tokens that have one before them.
double recall_of(const Trace& trace, const Json& config) {
  PrefetchContext context;
  context.shape = trace.shape();
  context.k = *trace.top_k();
  context.trace = &trace;
  const auto prefetcher =
      Registry<Prefetcher>::instance().make(Section(config, "test", "/prefetch"), context);
  Forecast forecast(*prefetcher, trace.shape());
  PredictionQuality quality(trace.shape());
  std::vector<ExpertId> ids(trace.recorded_k());
  std::vector<Access> accesses;
  std::uint32_t event = 0;
  bool first = true;
  for (std::uint32_t token = 0; token < trace.shape().tokens; ++token) {
    if (trace.phase(token) == Phase::kPrefill) continue;
    for (std::size_t l = 0; l < trace.shape().layers; ++l, ++event) {
      const auto layer = static_cast<LayerId>(l);
      const std::size_t count = trace.read_ids(token, layer, ids);
      accesses.assign(count, {});
      for (std::size_t i = 0; i < count; ++i) accesses[i].expert = ids[i];
      if (!first) quality.add(layer, accesses, forecast.named_for(event));
      forecast.after_visit(token, layer, event, std::span(ids).first(count));
      forecast.ask(1);
    }
    first = false;
  }
  return 100 * quality.result().recall;
}

}  // namespace

TEST_SUITE("golden prefetch") {
  TEST_CASE("phone traces: the previous token, and a static hot list of the whole decode") {
    struct Row {
      const char* trace;
      double previous_token;
      double hot_list;
    };
    // The hot list holds the k most used experts of a layer over all decoded tokens, in hindsight;
    // both are judged on the tokens that have a predecessor.
    for (const Row& row :
         {Row{"qwen", 38.0, 37.6}, Row{"gemma", 35.7, 39.6}, Row{"gptoss", 17.9, 26.7}}) {
      CAPTURE(row.trace);
      const auto trace = phone_trace(row.trace);
      if (!trace) return;
      CHECK(std::abs(recall_of(*trace, {{"policy", "previous_token"}}) - row.previous_token) <
            0.05);
      CHECK(std::abs(recall_of(*trace, {{"policy", "frequency"}, {"train_fraction", 1}}) -
                     row.hot_list) < 0.05);
    }
  }
}

}  // namespace moesim::test
