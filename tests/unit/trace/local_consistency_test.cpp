#include "trace/local_consistency.h"

#include <charconv>
#include <fstream>
#include <map>
#include <string_view>

#include "support/testing.h"
#include "support/traces.h"
#include "trace/synthetic.h"

namespace moesim::test {
namespace {

constexpr double kRounded = 5e-10;  // fixtures keep nine decimals

DecodeVisits visits_of(const TraceData& data) {
  return DecodeVisits::of(Trace::from_bytes(trace_image(data), "t"));
}

// One expert per visit, one layer.
TraceData single_expert(const std::vector<std::uint16_t>& ids, std::size_t experts) {
  TraceData data;
  data.shape = {ids.size(), 1, experts};
  data.k = 1;
  data.ids = ids;
  return data;
}

void check_srp(const DecodeVisits& visits, const Json& row) {
  const auto result = segment_routing(visits, row["m"].get<std::size_t>());
  REQUIRE(result);
  CHECK(std::abs(result->srp - row["srp"].get<double>()) < kRounded);
  CHECK(result->alpha == row["alpha"].get<std::size_t>());
  CHECK(std::abs(result->rho - row["rho"].get<double>()) < kRounded);
}

// The fields of one line of a route trace.
std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> fields;
  for (std::size_t at = 0; at != std::string_view::npos;) {
    const std::size_t comma = line.find(',', at);
    fields.push_back(line.substr(at, comma == std::string_view::npos ? comma : comma - at));
    at = comma == std::string_view::npos ? comma : comma + 1;
  }
  return fields;
}

std::size_t number(std::string_view text) {
  std::size_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  REQUIRE(result.ec == std::errc{});
  return value;
}

// The decode rows of `route_trace v1`: turn,phase,step,layer,slot,expert,...
TraceData read_decode_rows(const std::filesystem::path& path, const Json& shape) {
  TraceData data;
  data.shape = {shape["decode_tokens"].get<std::size_t>(), shape["layers"].get<std::size_t>(),
                shape["experts"].get<std::size_t>()};
  data.k = shape["top_k"].get<std::size_t>();
  data.ids.assign(data.shape.tokens * data.shape.layers * data.k, TraceData::kAbsentId);
  std::map<std::pair<std::size_t, std::size_t>, std::size_t> tokens;  // turn and step
  std::ifstream in(path);
  REQUIRE(in);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#' || line[0] == 't') continue;
    const auto fields = fields_of(line);
    if (fields[1] != "1") continue;
    const auto token =
        tokens.try_emplace({number(fields[0]), number(fields[2])}, tokens.size()).first->second;
    data.ids.at((token * data.shape.layers + number(fields[3])) * data.k + number(fields[4])) =
        static_cast<std::uint16_t>(number(fields[5]));
  }
  CHECK(tokens.size() == data.shape.tokens);
  return data;
}

void check_phone_trace(const Json& fixture, const Json& shape) {
  const auto path =
      third_party("raw_traces/Helldez__BigMoeOnEdge/" + shape["file"].get<std::string>());
  if (!path) return;
  const DecodeVisits visits = visits_of(read_decode_rows(*path, shape));
  std::size_t rows = 0;
  for (const Json& row : fixture["srp_pooled_over_layers"]) {
    if (row["trace"] != shape["trace"]) continue;
    check_srp(visits, row);
    ++rows;
  }
  for (const Json& row : fixture["per_layer"]["rows"]) {
    if (row["trace"] != shape["trace"]) continue;
    const auto result = segment_cache(visits, 16, row["capacity"].get<std::size_t>());
    CHECK(result.accesses == row["accesses"].get<std::uint64_t>());
    CHECK(result.hits_strict == row["hits"]["sch16_strict"].get<std::uint64_t>());
    ++rows;
  }
  CHECK(rows >= 5);
}

TEST_SUITE("trace/local_consistency") {
  TEST_CASE("SRP and SCH of the synthetic layer match the reference") {
    const Json fixture = golden("lrc_seed1.json");
    SyntheticOptions options;
    options.kind = SyntheticKind::kSegments;
    options.tokens = 256;
    options.layers = 1;
    options.experts = 16;
    options.k = 4;
    const DecodeVisits visits = visits_of(synthetic_trace(options));
    for (const Json& row : fixture["srp"]) check_srp(visits, row);
    for (const Json& row : fixture["sch"]) {
      CAPTURE(row.dump());
      const auto result =
          segment_cache(visits, row["m"].get<std::size_t>(), row["capacity"].get<std::size_t>());
      CHECK(result.accesses == row["accesses"].get<std::uint64_t>());
      CHECK(result.hits_strict == row["hits_strict"].get<std::uint64_t>());
      CHECK(result.hits_cold_counts_as_hit == row["hits_cold_counts_as_hit"].get<std::uint64_t>());
    }
  }

  TEST_CASE("SRP and SCH of recorded phone traces match the reference") {
    const Json fixture = golden("phone_trace_cache.json");
    for (const Json& shape : fixture["traces"]) check_phone_trace(fixture, shape);
  }

  TEST_CASE("constant routing is perfectly consistent") {
    const DecodeVisits visits = visits_of(single_expert(std::vector<std::uint16_t>(20, 3), 8));
    const auto result = segment_routing(visits, 4);
    REQUIRE(result);
    CHECK(result->srp == 1.0);
    CHECK(result->rho == 1.0);
    CHECK(segment_cache(visits, 4, 1).hits_strict == 19);
    CHECK(segment_cache(visits, 4, 1).hits_cold_counts_as_hit == 20);
    CHECK(segment_cache(visits, 4, 0).hits_cold_counts_as_hit == 0);
  }

  TEST_CASE("a worked window: the best threshold trades misses for false alarms") {
    // Windows of 2 over 0,0,1: {0,0} and {0,1}. hist[2] = 1, hist[1] = 2, N = 4.
    // alpha 2: 2*2 / (2*1 + 4) = 2/3; alpha 1: 2*4 / (2*3 + 4) = 0.8.
    const auto result = segment_routing(visits_of(single_expert({0, 0, 1}, 2)), 2);
    REQUIRE(result);
    CHECK(result->srp == doctest::Approx(0.8));
    CHECK(result->alpha == 1);
    CHECK(result->rho == doctest::Approx(1.5));
  }

  TEST_CASE("windows and caches end with their sequence") {
    TraceData data = single_expert({0, 0, 0, 0}, 2);
    data.sequence = {0, 0, 1, 1};
    const DecodeVisits visits = visits_of(data);
    CHECK(segment_routing(visits, 2)->srp == 1.0);
    CHECK_FALSE(segment_routing(visits, 3));
    CHECK(segment_cache(visits, 3, 1).hits_strict == 2);
  }

  TEST_CASE("the look-ahead keeps what returns within the window") {
    // With one slot for 0,1,0,1,... nothing hits; with two, only the first uses miss.
    const DecodeVisits visits = visits_of(single_expert({0, 1, 0, 1, 0, 1}, 3));
    CHECK(segment_cache(visits, 2, 1).hits_strict == 0);
    CHECK(segment_cache(visits, 2, 2).hits_strict == 4);
    // 2 arrives and the cache is full: with m = 3 the coming use of 0 is seen, so 1, although more
    // recent, leaves. With m = 1 the least recent, 0, does.
    const DecodeVisits passing = visits_of(single_expert({0, 1, 2, 0}, 3));
    CHECK(segment_cache(passing, 3, 2).hits_strict == 1);
    CHECK(segment_cache(passing, 1, 2).hits_strict == 0);
  }
}

}  // namespace
}  // namespace moesim::test
