// Whatever a TraceData holds comes back from its image; a damaged image gives a UserError or a
// trace, never anything else.
#include <utility>

#include "support/testing.h"
#include "support/traces.h"

namespace moesim::test {
namespace {

using RowReader = void (Trace::*)(std::size_t, LayerId, std::span<float>) const;

// All rows of a tensor, one after the other.
std::vector<float> rows(const Trace& trace, RowReader read, std::size_t width) {
  std::vector<float> all;
  std::vector<float> row(width);
  for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
    for (std::size_t layer = 0; layer < trace.shape().layers; ++layer) {
      (trace.*read)(token, static_cast<LayerId>(layer), row);
      all.insert(all.end(), row.begin(), row.end());
    }
  }
  return all;
}

void check_ids(const Trace& trace, const TraceData& data) {
  std::vector<std::uint16_t> all;
  std::vector<ExpertId> cell(data.k);
  for (std::size_t token = 0; token < data.shape.tokens; ++token) {
    for (std::size_t layer = 0; layer < data.shape.layers; ++layer) {
      const std::size_t count = trace.read_ids(token, static_cast<LayerId>(layer), cell);
      for (std::size_t slot = 0; slot < data.k; ++slot) {
        all.push_back(slot < count ? static_cast<std::uint16_t>(cell[slot]) : TraceData::kAbsentId);
      }
    }
  }
  CHECK(all == data.ids);
}

void check_per_token(const Trace& trace, const TraceData& data) {
  for (std::size_t token = 0; token < data.shape.tokens; ++token) {
    CHECK(trace.sequence(token) == data.sequence[token]);
    CHECK(trace.token_id(token) == data.token_ids[token]);
    CHECK(static_cast<std::uint8_t>(trace.phase(token)) == data.phase[token]);
    for (std::size_t layer = 0; layer < data.shape.layers; ++layer) {
      const auto id = static_cast<LayerId>(layer);
      const std::size_t cell = token * data.shape.layers + layer;
      CHECK(trace.router_input_l1(token, id) == data.router_input_l1[cell]);
      CHECK(trace.attention_received(token, id) == data.attention_received[cell]);
    }
  }
}

// The image with some of its bytes changed, or cut short.
std::vector<std::byte> damaged(std::vector<std::byte> image, Rng& rng) {
  if (rng.below(4) == 0) {
    image.resize(rng.below(image.size()));
    return image;
  }
  // The header is where damage can mislead the reader.
  const std::size_t reach =
      rng.below(2) == 0 ? image.size() : std::min<std::size_t>(image.size(), 900);
  const std::string interesting = "0123456789[]{}\",:-e .\\";
  for (std::uint64_t flips = 1 + rng.below(4); flips > 0; --flips) {
    std::byte& target = image[rng.below(reach)];
    target = rng.below(2) == 0 ? static_cast<std::byte>(rng.below(256))
                               : static_cast<std::byte>(interesting[rng.below(interesting.size())]);
  }
  return image;
}

// Reads everything once, so that a sanitizer sees what a wrong bound would do.
double sum_of_everything(const Trace& trace) {
  double sum = 0;
  if (trace.has_logits()) {
    for (const float value : rows(trace, &Trace::read_logits, trace.shape().experts)) sum += value;
  }
  if (trace.has_ids()) {
    std::vector<ExpertId> cell(trace.recorded_k());
    for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
      for (std::size_t layer = 0; layer < trace.shape().layers; ++layer) {
        sum += static_cast<double>(trace.read_ids(token, static_cast<LayerId>(layer), cell));
      }
      sum += trace.sequence(token) + (trace.phase(token) == Phase::kDecode ? 1 : 0);
    }
  }
  return sum;
}

TEST_SUITE("property/trace_round_trip") {
  TEST_CASE("random data come back from the image as they were") {
    for (std::uint64_t seed = 0; seed < 100; ++seed) {
      CAPTURE(seed);
      const TraceData data = random_trace_data(seed);
      const auto image = trace_image(data);
      CHECK(image == trace_image(data));
      const Trace trace = Trace::from_bytes(image, "t");
      REQUIRE(trace.shape().tokens == data.shape.tokens);
      REQUIRE(trace.shape().layers == data.shape.layers);
      REQUIRE(trace.shape().experts == data.shape.experts);
      REQUIRE(trace.recorded_k() == data.k);
      CHECK(rows(trace, &Trace::read_logits, data.shape.experts) == data.logits);
      CHECK(rows(trace, &Trace::read_next_layer_logits, data.shape.experts) ==
            data.next_layer_logits);
      CHECK(rows(trace, &Trace::read_weights, data.k) == data.weights);
      check_ids(trace, data);
      check_per_token(trace, data);
      std::vector<float> bias;
      for (std::size_t layer = 0; layer < data.shape.layers; ++layer) {
        const auto id = static_cast<LayerId>(layer);
        CHECK(trace.expert_bytes(id) == static_cast<std::uint64_t>(data.expert_bytes[layer]));
        bias.insert(bias.end(), trace.selection_bias(id).begin(), trace.selection_bias(id).end());
      }
      CHECK(bias == data.selection_bias);
      for (const auto& [key, value] : data.metadata) CHECK(trace.metadata().at(key) == value);
    }
  }

  TEST_CASE("a damaged file is refused or read, and nothing else happens") {
    Rng rng(20240501);
    int refused = 0;
    int read = 0;
    for (int round = 0; round < 4000; ++round) {
      const auto image = trace_image(random_trace_data(static_cast<std::uint64_t>(round % 40)));
      try {
        const Trace trace = Trace::from_bytes(damaged(image, rng), "t");
        CHECK(std::isfinite(sum_of_everything(trace)));
        ++read;
      } catch (const UserError& error) {
        CHECK(contains(error.what(), "t: "));
        ++refused;
      }
    }
    // Both outcomes must occur, or the damage tests nothing.
    CHECK(refused > 1000);
    CHECK(read > 100);
  }
}

}  // namespace
}  // namespace moesim::test
