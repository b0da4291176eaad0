// The cache against the fixtures: hand example, synthetic layer and recorded phone traces.
#include <array>
#include <fstream>
#include <map>
#include <sstream>

#include "core/rng.h"
#include "core/select.h"
#include "core/units.h"
#include "support/cache_replay.h"
#include "support/testing.h"

namespace moesim::test {
namespace {

constexpr std::size_t kSegmentTokens = 16;

CacheOptions one_layer(const RoutingShape& shape, std::uint64_t capacity) {
  CacheOptions options;
  options.shape = shape;
  options.capacity = capacity;
  return options;
}

// The eviction policy of a fixture, without the touch order that the fixtures keep beside it.
Json policy_of(Json eviction) {
  eviction.erase("touch_order");
  return eviction;
}

void set_rules(CacheOptions& options, const Json& eviction, const Json& accounting) {
  const bool ascending = eviction.value("touch_order", "descending") == "ascending";
  options.touch_order = ascending ? TouchOrder::kAscending : TouchOrder::kDescending;
  options.accounting = accounting == "access" ? Accounting::kAccess : Accounting::kEvent;
}

// [tokens * experts], as the fixture's `generator` says.
std::vector<double> synthetic_logits(const Json& generator) {
  const std::size_t experts = generator.at("experts");
  const std::size_t tokens = generator.at("tokens");
  Rng rng(generator.at("seed").get<std::uint64_t>());
  const auto uniform = [&] { return static_cast<double>(rng.next() >> 40) / 4194304.0 - 2.0; };
  std::vector<double> offsets(tokens / kSegmentTokens * experts);
  for (double& offset : offsets) offset = uniform();
  std::vector<double> logits(tokens * experts);
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const std::size_t segment = i / experts / kSegmentTokens;
    logits[i] = offsets[segment * experts + i % experts] + uniform();
  }
  return logits;
}

std::vector<RecordedVisit> synthetic_visits(const Json& fixture) {
  const std::size_t experts = fixture.at("generator").at("experts");
  const std::vector<double> logits = synthetic_logits(fixture.at("generator"));
  std::vector<RecordedVisit> visits(logits.size() / experts);
  for (std::size_t t = 0; t < visits.size(); ++t) {
    visits[t].token = static_cast<std::uint32_t>(t);
    visits[t].experts.resize(fixture.at("top_k").get<std::size_t>());
    select_top_k(std::span(logits).subspan(t * experts, experts) /* as const */,
                 std::span(visits[t].experts));
  }
  return visits;
}

void check_synthetic_row(const Json& fixture, const Json& row,
                         const std::vector<RecordedVisit>& visits) {
  const RoutingShape shape{visits.size(), 1, fixture.at("generator").at("experts")};
  CacheOptions options = one_layer(shape, fixture.at("capacity").get<std::uint64_t>());
  set_rules(options, row.at("eviction"), row.at("accounting"));
  const FutureAccesses future = future_of(visits, shape);
  ExpertCache cache = make_cache(options, policy_of(row.at("eviction")), &future);
  const CacheCounts counts = replay(cache, visits);
  const Json& expected = row.at("expected");
  CHECK(counts.accesses == expected.at("accesses"));
  CHECK(counts.hits == expected.at("hits"));
  CHECK(counts.misses == expected.at("misses"));
  if (!expected.contains("loads")) return;
  CHECK(counts.loads == expected.at("loads"));
  CHECK(counts.evictions == expected.at("evictions"));
  const auto ratio = [](std::uint64_t a, std::uint64_t b) {
    return static_cast<double>(a) / static_cast<double>(b);
  };
  CHECK(ratio(counts.lifetime_tokens, counts.evictions) ==
        doctest::Approx(expected.at("mean_lifetime_tokens").get<double>()).epsilon(1e-9));
  CHECK(ratio(options.capacity * visits.size(), counts.loads) ==
        doctest::Approx(expected.at("little_lifetime_tokens").get<double>()).epsilon(1e-9));
  CHECK(residents_by_score(cache, LayerId{}) ==
        expected.at("final_residents_lru_to_mru").get<std::vector<int>>());
}

// A `route_trace v1` recording: one visit per token and layer, prefill as one union per layer.
struct PhoneTrace {
  RoutingShape shape;
  std::vector<std::uint64_t> layer_bytes;  // [layers], one expert
  std::vector<RecordedVisit> prefill;
  std::vector<RecordedVisit> decode;
};

void read_preamble(const std::string& line, PhoneTrace& trace) {
  const auto value = [&](const std::string& key) {
    const std::size_t at = line.find(" " + key + "=");
    REQUIRE(at != std::string::npos);
    return std::stoull(line.substr(at + key.size() + 2));
  };
  if (line.find(" n_expert=") != std::string::npos) trace.shape.experts = value("n_expert");
  if (line.find(" layer=") == std::string::npos) return;
  REQUIRE(value("layer") == trace.layer_bytes.size());
  trace.layer_bytes.push_back(value("expert_bytes"));
}

// Rows come by turn, phase, step, layer and slot; slot 0 is the best expert.
PhoneTrace read_phone_trace(const std::filesystem::path& path) {
  std::ifstream in(path);
  REQUIRE(in.good());
  PhoneTrace trace;
  std::map<std::size_t, std::vector<ExpertId>> touches;  // of the prefill, by layer
  std::string line;
  while (std::getline(in, line)) {
    if (line.front() == '#') read_preamble(line, trace);
    if (line.front() < '0' || line.front() > '9') continue;
    std::istringstream row(line);
    std::array<std::size_t, 6> cell{};  // turn, phase, step, layer, slot, expert
    for (std::size_t& c : cell) {
      row >> c;
      row.ignore();
    }
    if (cell[1] == 0) {
      touches[cell[3]].push_back(expert_id(cell[5]));
      continue;
    }
    if (cell[4] == 0) {
      trace.decode.push_back({static_cast<std::uint32_t>(cell[2]), layer_id(cell[3]), {}, false});
    }
    REQUIRE(trace.decode.back().layer == layer_id(cell[3]));
    trace.decode.back().experts.push_back(expert_id(cell[5]));
  }
  trace.shape.layers = trace.layer_bytes.size();
  for (const auto& [layer, experts] : touches) {
    // Distinct experts by their last touch, the least recent first.
    std::vector<ExpertId> order;
    for (auto it = experts.rbegin(); it != experts.rend(); ++it) {
      if (std::find(order.begin(), order.end(), *it) == order.end()) order.push_back(*it);
    }
    std::reverse(order.begin(), order.end());
    trace.prefill.push_back({0, layer_id(layer), order, true});
  }
  return trace;
}

std::optional<PhoneTrace> phone_trace(const Json& fixture, const std::string& name) {
  for (const Json& entry : fixture.at("traces")) {
    if (entry.at("trace") != name) continue;
    const auto file = entry.at("file").get<std::string>();
    const auto path = third_party("raw_traces/Helldez__BigMoeOnEdge/" + file);
    if (!path) return std::nullopt;
    PhoneTrace trace = read_phone_trace(*path);
    CHECK(trace.shape.layers == entry.at("layers").get<std::size_t>());
    CHECK(trace.shape.experts == entry.at("experts").get<std::size_t>());
    return trace;
  }
  FAIL("no such trace in the fixture");
  return std::nullopt;
}

void check_global_row(const Json& row, const PhoneTrace& trace) {
  CacheOptions options = one_layer(trace.shape, row.at("budget_mib").get<std::uint64_t>() * kMiB);
  options.scope = CacheScope::kGlobal;
  options.overflow = Overflow::kKeepEvent;
  for (const std::uint64_t bytes : trace.layer_bytes) {
    options.expert_size.insert(options.expert_size.end(), trace.shape.experts, bytes);
  }
  ExpertCache cache = make_cache(options, {{"policy", "lru"}});
  const CacheCounts prefill = replay(cache, trace.prefill);
  const CacheCounts decode = replay(cache, trace.decode);
  CHECK(prefill.hits + decode.hits == row.at("hits"));
  CHECK(prefill.accesses + decode.accesses == row.at("lookups"));
  CHECK(decode.hits == row.at("decode_hits"));
  CHECK(decode.accesses == row.at("decode_lookups"));
}

void check_layer_row(const Json& row, const PhoneTrace& trace) {
  struct Column {
    const char* name;
    const char* policy;
    TouchOrder touch_order;
    Accounting accounting;
  };
  constexpr auto kDown = TouchOrder::kDescending;
  for (const Column& column :
       {Column{"lru_descending", "lru", kDown, Accounting::kEvent},
        Column{"lru_ascending", "lru", TouchOrder::kAscending, Accounting::kEvent},
        Column{"lru_access", "lru", kDown, Accounting::kAccess},
        Column{"lfu", "lfu", kDown, Accounting::kEvent},
        Column{"lfru", "lfru", kDown, Accounting::kEvent},
        Column{"belady", "belady", kDown, Accounting::kEvent},
        Column{"min_bypass", "min_bypass", kDown, Accounting::kEvent}}) {
    CAPTURE(column.name);
    CacheOptions options = one_layer(trace.shape, row.at("capacity").get<std::uint64_t>());
    options.touch_order = column.touch_order;
    options.accounting = column.accounting;
    const CacheCounts counts = replay(options, {{"policy", column.policy}}, trace.decode);
    CHECK(counts.accesses == row.at("accesses"));
    CHECK(counts.hits == row.at("hits").at(column.name));
  }
  // sch16_strict is no cache of this kind: tests/unit/trace/local_consistency_test.cpp
  CHECK(row.at("hits").size() == 7 + 1);
}

}  // namespace

TEST_SUITE("golden cache") {
  TEST_CASE("hand example: residents and hits of given selections") {
    const Json fixture = golden("hand_example.json");
    for (const Json& policy : fixture.at("policies")) {
      CAPTURE(policy.at("id").get<std::string>());
      CacheOptions options =
          one_layer({4, 1, fixture.at("experts")}, fixture.at("capacity").get<std::uint64_t>());
      set_rules(options, fixture.at("eviction"), fixture.at("accounting"));
      ExpertCache cache = make_cache(options, policy_of(fixture.at("eviction")));
      std::size_t total = 0;
      std::uint32_t number = 0;
      for (const Json& token : policy.at("tokens")) {
        CAPTURE(number);
        CHECK(residents_by_score(cache, LayerId{}) ==
              token.at("residents_before").get<std::vector<int>>());
        const auto chosen = expert_ids(token.at("selected_in_policy_order"));
        const EventOutcome outcome = cache.visit(number++, LayerId{}, chosen);
        std::vector<int> hits;
        for (const Access& access : outcome.accesses) {
          if (access.kind == AccessKind::kHit) {
            hits.push_back(static_cast<int>(index(access.expert)));
          }
        }
        CHECK(hits == token.at("hits").get<std::vector<int>>());
        CHECK(residents_by_score(cache, LayerId{}) ==
              token.at("residents_after").get<std::vector<int>>());
        total += hits.size();
      }
      CHECK(total == policy.at("total_hits"));
    }
  }

  TEST_CASE("synthetic layer: hits, loads, evictions, lifetimes, final residents") {
    const Json fixture = golden("synthetic_seed1.json");
    const std::vector<double> logits = synthetic_logits(fixture.at("generator"));
    const std::size_t experts = fixture.at("generator").at("experts");
    for (const Json& check : fixture.at("checks").at("logits")) {
      const std::size_t token = check.at("token");
      CHECK(logits[token * experts + check.at("expert").get<std::size_t>()] == check.at("value"));
    }
    const std::vector<RecordedVisit> visits = synthetic_visits(fixture);
    for (const Json& check : fixture.at("checks").at("top_k")) {
      CHECK(visits[check.at("token").get<std::size_t>()].experts ==
            expert_ids(check.at("experts")));
    }
    std::size_t rows = 0;
    for (const Json& row : fixture.at("rows")) {
      if (row.at("routing").at("policy") != "top_k") continue;
      CAPTURE(row.at("id").get<std::string>());
      check_synthetic_row(fixture, row, visits);
      ++rows;
    }
    CHECK(rows == 8);
  }

  TEST_CASE("phone traces: one global LRU in bytes") {
    const Json fixture = golden("phone_trace_cache.json");
    for (const Json& row : fixture.at("global_byte_lru").at("rows")) {
      const auto name = row.at("trace").get<std::string>();
      CAPTURE(name);
      CAPTURE(row.at("budget_mib").get<int>());
      const auto trace = phone_trace(fixture, name);
      if (!trace) return;
      check_global_row(row, *trace);
    }
  }

  TEST_CASE("phone traces: caches of some experts per layer") {
    const Json fixture = golden("phone_trace_cache.json");
    for (const Json& row : fixture.at("per_layer").at("rows")) {
      const auto name = row.at("trace").get<std::string>();
      CAPTURE(name);
      CAPTURE(row.at("capacity").get<int>());
      const auto trace = phone_trace(fixture, name);
      if (!trace) return;
      check_layer_row(row, *trace);
    }
  }
}

}  // namespace moesim::test
