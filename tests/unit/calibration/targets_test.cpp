#include "calibration/targets.h"

#include <utility>
#include <vector>

#include "support/targets.h"

namespace moesim::test {
namespace {

std::string error_of(const Json& targets) {
  return user_error_of([&] { (void)read_targets_of(targets); });
}

// The message for one row in which `key` has another value.
std::string error_with(const char* key, const Json& value) {
  Json row = measured_row();
  row[Json::json_pointer(key)] = value;
  return error_of(targets_of({row}));
}

std::string error_without(const char* key) {
  Json row = measured_row();
  row.erase(key);
  return error_of(targets_of({row}));
}

Json with_contrast(const ChangeRow& change) {
  Json targets = targets_of({measured_row("R1"), measured_row("R2")});
  targets["contrasts"] = {
      {{"a", "R1"}, {"b", "R2"}, {"metric", "wall_ms.mean"}, {"effect_pct", -12.5}}};
  change(targets["contrasts"][0]);
  return targets;
}

}  // namespace

TEST_SUITE("calibration/targets") {
  TEST_CASE("every key of a row reaches its field") {
    const TargetRow row = target_row([](Json& json) {
      json.merge_patch(parse_json(R"({"set": "visible", "role": "calibration", "file": "a.csv",
        "cache_mib": 512.5, "overlap": true, "mmap": true, "prefetch": "router",
        "drop_cold_frac": 0.75, "eviction": "lfu", "cache_scope": "layer",
        "expert_layout": "contiguous", "reads_per_expert": 1, "dense_policy": "mmap",
        "route_trace": "x/y.csv", "state": "hot", "sensors": {"note": "text"}})",
                                  "patch"));
    });
    CHECK(row.place == "t.json: /rows/0");
    CHECK(row.id == "R1");
    CHECK(row.set == "visible");
    CHECK(row.role == "calibration");
    CHECK(row.group == "olmoe-1b-7b");
    CHECK(row.file == "a.csv");
    CHECK(row.device == "oneplus-15r");
    CHECK(row.model == "OLMoE-1B-7B");
    CHECK(row.format == "Q4_K_M");
    CHECK(row.missing.empty());
    CHECK(row.top_k == 4);
    CHECK(row.cache_mib == 512.5);
    CHECK(row.lanes == 4);
    CHECK(row.overlap);
    CHECK(row.mmap);
    CHECK(row.prefetch == "router");
    CHECK(row.drop_cold_frac == 0.75);
    CHECK(row.eviction == "lfu");
    CHECK(row.cache_scope == "layer");
    CHECK(row.expert_layout == "contiguous");
    CHECK(row.reads_per_expert == 1);
    CHECK(row.dense_policy == "mmap");
    CHECK(row.threads == 4);
    CHECK(row.tokens == 20);
    CHECK(row.prompt_tokens == 4);
    CHECK(row.tokens_dropped == 5);
    CHECK(row.layers == 16);
    CHECK(row.experts == 64);
    CHECK(row.expert_bytes ==
          std::vector<std::pair<std::uint64_t, std::size_t>>{{3000000, 8}, {4000000, 8}});
    CHECK(row.dense_bytes == 150000000);
    CHECK(row.head_bytes == 60000000);
    CHECK(row.route_trace == "x/y.csv");
    CHECK(row.state == "hot");
    CHECK(row.sensors == std::map<std::string, double>{{"cpu_start_c", 40.5}});
    CHECK(row.measured["tok_s"] == 4.0);
  }

  TEST_CASE("what may be null or absent has a meaning") {
    for (const bool null : {true, false}) {
      const TargetRow row = target_row([&](Json& json) {
        for (const char* key :
             {"group", "format", "cache_mib", "lanes", "overlap", "mmap", "prefetch",
              "drop_cold_frac", "eviction", "cache_scope", "expert_layout", "reads_per_expert",
              "dense_policy", "threads", "prompt_tokens", "route_trace", "state", "sensors"}) {
          null ? void(json[key] = nullptr) : void(json.erase(key));
        }
        json["measured"].erase("tokens_dropped");
      });
      CHECK(row.group.empty());
      CHECK(row.format.empty());
      CHECK(!row.cache_mib);
      CHECK(row.lanes == 0);
      CHECK(!row.overlap);
      CHECK(!row.mmap);
      CHECK(row.prefetch.is_null());
      CHECK(!row.drop_cold_frac);
      CHECK(row.eviction.empty());
      CHECK(row.cache_scope == "global");
      CHECK(row.expert_layout == "slices");
      CHECK(row.reads_per_expert == 0);
      CHECK(row.dense_policy == "anon");
      CHECK(row.threads == 0);
      CHECK(row.prompt_tokens == 0);
      CHECK(row.tokens_dropped == 0);
      CHECK(row.route_trace.empty());
      CHECK(row.state == "unknown");
      CHECK(row.sensors.empty());
      CHECK(row.role == "check");
    }
  }

  TEST_CASE("keys that nobody reads are accepted everywhere") {
    Json targets = with_contrast([](Json& contrast) { contrast["note"] = {1, 2}; });
    targets["units"] = "ms";
    targets["rows"][0]["native_top_k"] = 8;
    targets["rows"][0]["measured"]["majflt"] = {{"p50", 3}};
    const TargetFile file = read_targets_of(targets);
    CHECK(file.shown == "t.json");
    CHECK(file.rows.size() == 2);
    CHECK(file.rows[0].measured["majflt"]["p50"] == 3);
    CHECK(file.rows[1].place == "t.json: /rows/1");
  }

  TEST_CASE("a size that is null is named, one that is absent is an error") {
    for (const char* key : {"top_k", "layers", "experts", "expert_bytes_by_layer_count",
                            "dense_bytes_per_token", "head_bytes_per_token"}) {
      CHECK(target_row([&](Json& json) { json[key] = nullptr; }).missing == key);
      CHECK(error_without(key) == std::string("t.json: /rows/0/") + key + ": missing key");
    }
  }

  TEST_CASE("a contrast reaches its fields, and a file without any has none") {
    const TargetFile file = read_targets_of(with_contrast([](Json& contrast) {
      contrast["id"] = "lanes";
      contrast["what"] = "lanes 2 -> 4";
      contrast["score"] = true;
    }));
    const TargetContrast& contrast = file.contrasts.at(0);
    CHECK(contrast.id == "lanes");
    CHECK(contrast.what == "lanes 2 -> 4");
    CHECK(contrast.a == "R1");
    CHECK(contrast.b == "R2");
    CHECK(contrast.metric == "wall_ms.mean");
    CHECK(contrast.effect_pct == -12.5);
    CHECK(contrast.score);
    CHECK(!read_targets_of(with_contrast([](Json&) {})).contrasts.at(0).score);
    CHECK(read_targets_of(targets_of({measured_row()})).contrasts.empty());
    Json null = targets_of({measured_row()});
    null["contrasts"] = nullptr;
    CHECK(read_targets_of(null).contrasts.empty());
  }

  TEST_CASE("defects of the file are named with their place") {
    Json targets = targets_of({measured_row()});
    targets["schema"] = "phone-measurements/2";
    CHECK(error_of(targets) ==
          R"(t.json: /schema: expected "phone-measurements/1", got "phone-measurements/2")");
    targets.erase("schema");
    CHECK(error_of(targets) == "t.json: /schema: missing key");
    targets = targets_of({});
    targets["rows"] = 7;
    CHECK(error_of(targets) == "t.json: /rows: expected an array, got 7");
    CHECK(error_of(targets_of({})) == "t.json: /rows: expected at least one row, got none");
    CHECK(contains(error_of(targets_of({measured_row(), 7})), "t.json: /rows/1: expected an obj"));
    CHECK(error_of(targets_of({measured_row(), measured_row()})) ==
          R"(t.json: /rows/1/id: expected an id of its own, got "R1" a second time)");
    CHECK(contains(user_error_of([] { (void)read_targets("/no/such.json", "no.json"); }),
                   "no.json: "));
  }

  TEST_CASE("defects of a row are named with their place") {
    for (const char* key : {"id", "device", "model", "tokens", "measured"}) {
      CHECK(error_without(key) == std::string("t.json: /rows/0/") + key + ": missing key");
    }
    const std::vector<std::pair<const char*, Json>> wrong = {
        {"/id", 3},           {"/device", 3},
        {"/cache_mib", -1},   {"/lanes", 0},
        {"/threads", 0},      {"/reads_per_expert", 0},
        {"/overlap", "yes"},  {"/drop_cold_frac", -0.5},
        {"/top_k", 0},        {"/layers", 2000000},
        {"/tokens", 0},       {"/dense_bytes_per_token", -1},
        {"/measured", 3},     {"/head_bytes_per_token", 1ULL << 41U},
        {"/sensors", "warm"}, {"/measured/tokens_dropped", -1}};
    for (const auto& [key, value] : wrong) {
      CAPTURE(std::string(key));
      CHECK(contains(error_with(key, value), std::string("t.json: /rows/0") + key + ": expected "));
    }
    for (const char* key : {"/tokens", "/prompt_tokens"}) {
      CHECK(contains(error_with(key, 16385), ": expected an integer in ["));
    }
    CHECK(contains(error_with("/experts", 3), "t.json: /rows/0/experts: expected "));
    CHECK(error_with("/tokens", 5) ==
          "t.json: /rows/0/tokens: expected more than the 5 that are dropped, got 5");
  }

  TEST_CASE("sizes of experts are pairs of bytes and layers that add up") {
    const char* key = "/expert_bytes_by_layer_count";
    const std::string place = "t.json: /rows/0/expert_bytes_by_layer_count: expected ";
    for (const char* wrong : {"7", "[]", "[[1]]", "[[1, 16, 2]]", "[[1.5, 16]]", "[[0, 16]]",
                              "[[5, 16], [5, 0]]", "[[2000000000000, 16]]", "[[5, 2000000]]"}) {
      CHECK(error_with(key, parse_json(wrong, "test")) ==
            place + "[[bytes, layers], ...], got " + parse_json(wrong, "test").dump());
    }
    CHECK(error_with(key, parse_json("[[5, 8], [6, 7]]", "test")) ==
          place + "sizes for 16 layers, got 15");
  }

  TEST_CASE("defects of a contrast are named with their place") {
    const auto error = [](const ChangeRow& change) { return error_of(with_contrast(change)); };
    CHECK(error([](Json& contrast) { contrast["a"] = "R3"; }) ==
          R"(t.json: /contrasts/0/a: expected the id of a row, got "R3")");
    CHECK(error([](Json& contrast) { contrast["b"] = "R3"; }) ==
          R"(t.json: /contrasts/0/b: expected the id of a row, got "R3")");
    for (const char* key : {"a", "b", "metric", "effect_pct"}) {
      CHECK(error([&](Json& contrast) { contrast.erase(key); }) ==
            std::string("t.json: /contrasts/0/") + key + ": missing key");
    }
    Json targets = targets_of({measured_row()});
    targets["contrasts"] = 7;
    CHECK(error_of(targets) == "t.json: /contrasts: expected an array, got 7");
  }

  TEST_CASE("a dotted key leads to a number or to none") {
    const Json numbers = {{"io_ms", 2}, {"wall_ms", {{"p50", 1.5}, {"p90", nullptr}}}, {"x", "y"}};
    CHECK(metric_of(numbers, "io_ms") == 2);
    CHECK(metric_of(numbers, "wall_ms.p50") == 1.5);
    for (const char* none : {"wall_ms", "wall_ms.p90", "wall_ms.p99", "io_ms.p50", "x", "", "."}) {
      CHECK(!metric_of(numbers, none));
    }
    CHECK(!metric_of(nullptr, "io_ms"));
  }
}

}  // namespace moesim::test
