#include "api/target_config.h"

#include <algorithm>

#include "support/targets.h"

namespace moesim::test {
namespace {

Json config_with(const ChangeRow& change, const TargetDevice& device = target_device()) {
  const TargetRow row = target_row(change);
  return target_config(row, device, model_of(row), "t.safetensors").config;
}

// Of a device that lacks something.
TargetDevice without(const std::string& pointer) {
  TargetDevice device = target_device();
  Json& text = device.text;
  const Json::json_pointer place(pointer);
  text.at(place.parent_pointer()).erase(place.back());
  text["provenance"].erase(pointer);
  device.device = read_device(Section(text, "d.json", ""));
  return device;
}

std::vector<std::string> notes_with(const ChangeRow& change,
                                    const TargetDevice& device = target_device()) {
  const TargetRow row = target_row(change);
  return target_config(row, device, model_of(row), "t.safetensors").notes;
}

Json execution_with(const ChangeRow& change) { return config_with(change)["execution"]; }

std::string unsupported(const ChangeRow& change) {
  try {
    (void)config_with(change);
  } catch (const UnsupportedRow& reason) {
    return reason.what();
  }
  FAIL_CHECK("expected an UnsupportedRow");
  return "";
}

std::string model_named(const std::string& group, const std::string& model, std::size_t layers,
                        std::size_t experts) {
  TargetRow row = target_row();
  row.group = group;
  row.model = model;
  row.layers = layers;
  row.experts = experts;
  return model_of(row).name;
}

}  // namespace

TEST_SUITE("api/target_config") {
  TEST_CASE("settings are taken as they are") {
    const Json config = config_with([](Json& row) {
      row["cache_mib"] = 500;
      row["cache_scope"] = "layer";
      row["eviction"] = "lfu";
      row["lanes"] = 2;
      row["threads"] = 6;
      row["overlap"] = true;
    });
    CHECK(config["trace"] == Json{{"path", "t.safetensors"}, {"max_tokens", 24}});
    CHECK(config["model"] == "olmoe-1b-7b");
    CHECK(config["device"]["name"] == "oneplus-15r");
    CHECK(config["routing"] == Json{{"policy", "top_k"}, {"k", 4}});
    CHECK(config["cache"] == Json{{"scope", "layer"},
                                  {"capacity_mib", 500.0},
                                  {"overflow", "keep_event"},
                                  {"eviction", {{"policy", "lfu"}}}});
    CHECK(config["prefetch"] == Json{{"policy", "none"}});
    CHECK(
        config["execution"] ==
        Json{{"overlap", "projection"}, {"expert_layout", "slices"}, {"threads", 6}, {"lanes", 2}});
    CHECK(config["memory"] == Json{{"dense_pages", "anonymous"}});
  }

  TEST_CASE("what was not recorded is left to the defaults") {
    const Json config = config_with([](Json& row) {
      for (const char* key : {"cache_mib", "lanes", "threads"}) row[key] = nullptr;
    });
    CHECK(config["execution"] == Json{{"overlap", "none"}, {"expert_layout", "slices"}});
    CHECK(config["cache"]["capacity_mib"] == 0);
    CHECK(config["cache"]["eviction"]["policy"] == "lru");
    CHECK(config["cache"]["scope"] == "global");
  }

  TEST_CASE("experts that are not resident are dropped where the row drops them") {
    CHECK(config_with([](Json& row) { row["drop_cold_frac"] = 0.75; })["routing"] ==
          Json{{"policy", "drop_cold"}, {"k", 4}, {"F", 0.75}});
    CHECK(config_with([](Json& row) { row["drop_cold_frac"] = 0; })["routing"]["policy"] ==
          "top_k");
  }

  TEST_CASE("the layout of experts follows from how many reads one takes") {
    const auto layout = [](const char* name, const Json& reads) {
      return execution_with([&](Json& row) {
        row["expert_layout"] = name;
        row["reads_per_expert"] = reads;
      })["expert_layout"];
    };
    CHECK(layout("slices", 3) == "slices");
    CHECK(layout("slices", nullptr) == "slices");
    CHECK(layout("slices", 2) == "fused");
    CHECK(layout("slices", 1) == "contiguous");
    CHECK(layout("contiguous", 1) == "contiguous");
    CHECK(layout("contiguous", nullptr) == "contiguous");
  }

  TEST_CASE("a format names the kernels, the bytes of dense weights their size") {
    const auto format = [](const char* name) {
      return config_with([&](Json& row) { row["format"] = name; })["weights"];
    };
    CHECK(format("Q4_K_M")["expert_format"] == "q4");
    CHECK(format("Q4_K_M")["dense_format"] == "q4");
    CHECK(format("Q5_K_M")["expert_format"] == "q5");
    CHECK(format("MXFP4 experts in a gguf of BF16")["expert_format"] == "q4");
    CHECK(format("BF16")["expert_format"] == "f16");
    CHECK(!format("mixed").contains("expert_format"));
    CHECK(!format("E99M22").contains("dense_format"));
    const MoeModel model = model_of(target_row()).model;
    std::uint64_t params = model.head_params();
    for (std::size_t layer = 0; layer < 16; ++layer) {
      params += model.active_mixer_params(layer) + model.router_params();
    }
    CHECK(format("Q4_K_M")["dense_bits"].get<double>() ==
          doctest::Approx(8.0 * 210e6 / static_cast<double>(params)));
    CHECK(config_with([](Json& row) {
            row["dense_bytes_per_token"] = row["head_bytes_per_token"] = 0;
          })["weights"]["dense_bits"] == 0.5);
  }

  TEST_CASE(
      "the recorded cap of the clock is held, else a hot device runs at its sustained clock") {
    const auto clock = [](const char* state, const Json& sensors) {
      const Json execution = execution_with([&](Json& row) {
        row["state"] = state;
        row["sensors"] = sensors;
      });
      return execution.contains("clock_ghz") ? execution["clock_ghz"] : Json(nullptr);
    };
    const Json both = {{"clock_cap_entry_ghz", 2.2}, {"clock_cap_exit_ghz", 1.9}};
    CHECK(clock("hot", both) == doctest::Approx(2.05));
    CHECK(clock("cool", {{"clock_cap_entry_ghz", 3.0336}}) == 3.0336);
    CHECK(clock("cool", Json::object()) == nullptr);
    CHECK(clock("pressure", Json::object()) == nullptr);
    CHECK(clock("hot", Json::object()) == 1.9);
    CHECK(clock("hot", {{"clock_cap_exit_ghz", 2.0}}) == 1.9);
  }

  TEST_CASE("a device whose rates have no clock is not held at one") {
    for (const char* state : {"hot", "cool"}) {
      const auto change = [&](Json& row) {
        row["state"] = state;
        row["sensors"] = {{"clock_cap_entry_ghz", 2.2}};
      };
      CHECK(!config_with(change, target_device("rk3588"))["execution"].contains("clock_ghz"));
    }
  }

  TEST_CASE("the sustained clock is the last step that heat 1 reaches") {
    CHECK(sustained_clock_ghz(parse_json(
              R"({"thermal": {"caps_ghz": [3, 2, 1.5], "caps_heat": [0, 1, 1.1]}})", "d")) == 2);
    CHECK(!sustained_clock_ghz(parse_json(R"({"thermal": {"caps_ghz": [3, 2]}})", "d")));
    CHECK(!sustained_clock_ghz(parse_json(R"({"thermal": null})", "d")));
    CHECK(!sustained_clock_ghz(Json::object()));
  }

  TEST_CASE("dense weights lie in the pages that the row's policy gives them") {
    const auto pages = [](const char* policy) {
      return config_with([&](Json& row) { row["dense_policy"] = policy; })["memory"]["dense_pages"];
    };
    CHECK(pages("anon") == "anonymous");
    CHECK(pages("ahwb") == "pinned");
    CHECK(pages("mmap") == "file");
    CHECK(pages("warm") == "file");
  }

  TEST_CASE("under pressure the app has what was available less the reserve") {
    const auto memory = [](const char* state, const TargetDevice& device, const Json& sensors) {
      return config_with(
          [&](Json& row) {
            row["state"] = state;
            row["sensors"] = sensors;
          },
          device)["memory"];
    };
    const Json available = {{"mem_available_start_mib", 6000}};
    CHECK(memory("pressure", target_device(), available)["app_budget_mib"] == 6000.0 - 1550);
    CHECK(!memory("cool", target_device(), available).contains("app_budget_mib"));
    CHECK(!memory("pressure", target_device(), Json::object()).contains("app_budget_mib"));
    CHECK(!memory("pressure", target_device("rk3588"), available).contains("app_budget_mib"));
  }

  TEST_CASE("of a memory map experts have what dense weights leave of the page cache") {
    const auto mapped = [](const Json& sensors) {
      return config_with([&](Json& row) {
        row["mmap"] = true;
        row["cache_mib"] = nullptr;
        row["overlap"] = true;  // which only reads of the engine can have
        row["sensors"] = sensors;
      });
    };
    const double dense_mib = 210e6 / (1 << 20);
    const Json config = mapped({{"mem_available_start_mib", 3000}});
    CHECK(config["execution"]["read_path"] == "mmap");
    CHECK(config["execution"]["overlap"] == "none");
    CHECK(config["memory"]["app_budget_mib"] == 3000.0);
    CHECK(config["cache"]["capacity_mib"].get<double>() == doctest::Approx(3000 - dense_mib));
    CHECK(mapped(Json::object())["cache"]["capacity_mib"].get<double>() ==
          doctest::Approx(5600 - dense_mib));
    CHECK(mapped({{"mem_available_start_mib", 100}})["cache"]["capacity_mib"] == 0);
  }

  TEST_CASE("a prefetch by name is that policy, any other a predictor of the measured recall") {
    const auto prefetch = [](const Json& value) {
      return config_with([&](Json& row) {
        row["prefetch"] = value;
        row["cache_mib"] = 500;
      })["prefetch"];
    };
    for (const Json& none :
         {Json(nullptr), Json(false), Json(0), Json("none"), Json("off"), Json("")}) {
      CHECK(prefetch(none) == Json{{"policy", "none"}});
    }
    CHECK(prefetch("previous_token") == Json{{"policy", "previous_token"}});
    const Json predicted = {{"policy", "noisy_oracle"}, {"recall", 0.886}, {"precision", 0.886}};
    for (const Json& other : {Json(true), Json(1), Json("router"), Json("next_layer_gate"),
                              Json("transition"), Json("token_table")}) {
      CHECK(prefetch(other) == predicted);
    }
    const auto standin = [](const Json& value) {
      const TargetRow row = target_row([&](Json& json) {
        json["prefetch"] = value;
        json["cache_mib"] = 500;
      });
      return target_config(row, target_device(), model_of(row), "t.safetensors").standin;
    };
    CHECK(standin("transition") ==
          "prefetch \"transition\": a noisy oracle of recall 0.886 and precision 0.886");
    CHECK(standin("previous_token").empty());
    CHECK(standin(nullptr).empty());
  }

  TEST_CASE("where nearly every expert runs a predictor cannot be less precise than that") {
    const Json prefetch = config_with([](Json& row) {
      row["prefetch"] = true;
      row["top_k"] = 60;
      row["cache_mib"] = 500;
    })["prefetch"];
    CHECK(prefetch["recall"] == 0.886);
    CHECK(prefetch["precision"] == 60.0 / 64);
  }

  TEST_CASE("nothing is read ahead without a cache or through a memory map, and that is noted") {
    for (const bool mmap : {false, true}) {
      const auto ahead = [&](Json& row) {
        row["prefetch"] = "previous_token";
        row["mmap"] = mmap;
      };
      CHECK(config_with(ahead)["prefetch"] == Json{{"policy", "none"}});
      REQUIRE(notes_with(ahead).size() == 1);
      CHECK(contains(notes_with(ahead)[0], mmap ? "page faults" : "without a cache"));
    }
  }

  TEST_CASE("lanes beyond the device's are cut, and that is noted") {
    const std::size_t limit = target_device().device.flash->qd_limit;
    const auto lanes = [](std::size_t count) {
      return [count](Json& row) { row["lanes"] = count; };
    };
    CHECK(execution_with(lanes(limit))["lanes"] == limit);
    CHECK(notes_with(lanes(limit)).empty());
    CHECK(execution_with(lanes(limit + 1))["lanes"] == limit);
    const auto notes = notes_with(lanes(limit + 1));
    REQUIRE(notes.size() == 1);
    CHECK(contains(notes[0], "lanes cut to the "));
  }

  TEST_CASE("a memory map has no lanes") {
    CHECK(!execution_with([](Json& row) {
             row["mmap"] = true;
             row["lanes"] = 2;
           }).contains("lanes"));
  }

  TEST_CASE("a budget of nothing is the dense weights, at least a MiB, and that is noted") {
    const auto pressed = [](double available, std::uint64_t dense) {
      return [=](Json& row) {
        row["state"] = "pressure";
        row["sensors"] = {{"mem_available_start_mib", available}};
        row["dense_bytes_per_token"] = dense;
        row["head_bytes_per_token"] = 0;
      };
    };
    CHECK(config_with(pressed(1551, 1 << 30))["memory"]["app_budget_mib"] == 1.0);
    CHECK(notes_with(pressed(1551, 1 << 30)).empty());
    CHECK(config_with(pressed(1550, 1 << 30))["memory"]["app_budget_mib"] == 1024.0);
    CHECK(config_with(pressed(1000, 0))["memory"]["app_budget_mib"] == 1.0);
    CHECK(notes_with(pressed(1000, 1 << 30)) ==
          std::vector<std::string>{
              "a budget of 1024 MiB instead of -550 MiB: that of the dense weights"});
  }

  TEST_CASE("dense weights are anonymous where the device cannot page them in from a file") {
    const TargetDevice device = without("/flash/mmap_fault_us");
    const auto mapped = [](Json& row) { row["dense_policy"] = "mmap"; };
    CHECK(config_with(mapped, device)["memory"]["dense_pages"] == "anonymous");
    const auto notes = notes_with(mapped, device);
    REQUIRE(notes.size() == 1);
    CHECK(contains(notes[0], "the device has no flash.mmap_fault_us"));
    CHECK(notes_with(mapped).empty());
  }

  TEST_CASE(
      "the model is that of the group, of the name, or one of the family with the same shape") {
    CHECK(model_named("qwen3-30b-a3b", "something", 48, 128) == "qwen3-30b-a3b");
    CHECK(model_named("", "Qwen3-30B-A3B", 48, 128) == "qwen3-30b-a3b");
    CHECK(model_named("", "Gemma-4-26B-A4B-it", 30, 128) == "gemma-4-26b-a4b");
    CHECK(model_named("lfm", "LFM2.5-8B-A1B", 22, 32) == "lfm2-8b-a1b");
    CHECK(model_named("gpt-oss-20b", "gpt-oss-120b", 36, 128) == "gpt-oss-120b");
  }

  TEST_CASE("what this program does not have makes a row unsupported") {
    CHECK(unsupported([](Json& row) { row["group"] = row["model"] = "made-up"; }) ==
          "no model description of made-up with 16 layers of 64 experts");
    CHECK(unsupported([](Json& row) { row["experts"] = 65; }) ==
          "no model description of OLMoE-1B-7B with 16 layers of 65 experts");
    CHECK(unsupported([](Json& row) { row["group"] = row["model"] = "7b"; }) ==
          "no model description of 7b with 16 layers of 64 experts");
    CHECK(unsupported([](Json& row) { row["eviction"] = "clock"; }) ==
          "the eviction policy \"clock\" is not one of this program's");
    CHECK(unsupported([](Json& row) { row["cache_scope"] = "expert"; }) ==
          "the cache scope \"expert\" is neither global nor layer");
  }

  TEST_CASE("sizes of experts are spread evenly over the depth") {
    TargetRow row = target_row();
    std::vector<std::int64_t> alternating;
    for (int i = 0; i < 8; ++i) {
      alternating.push_back(3000000);
      alternating.push_back(4000000);
    }
    CHECK(expert_bytes_by_layer(row) == alternating);
    row.expert_bytes = {{10, 15}, {20, 1}};
    const auto bytes = expert_bytes_by_layer(row);
    CHECK(std::count(bytes.begin(), bytes.end(), 10) == 15);
    CHECK(std::count(bytes.begin(), bytes.end(), 20) == 1);
    row.expert_bytes = {{10, 16}};
    CHECK(expert_bytes_by_layer(row) == std::vector<std::int64_t>(16, 10));
  }
}

}  // namespace moesim::test
