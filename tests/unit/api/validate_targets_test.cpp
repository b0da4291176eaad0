#include "api/validate_targets.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "report/target_report.h"
#include "support/targets.h"

namespace moesim::test {
namespace {

using Rows = std::vector<Json>;

class TargetsOnDisk {
 public:
  explicit TargetsOnDisk(const Rows& rows, const Json& contrasts = Json::array()) {
    Json targets = targets_of(rows);
    targets["contrasts"] = contrasts;
    std::ofstream(folder_.path() / "t.json") << targets.dump();
    options.targets = (folder_.path() / "t.json").string();
    options.traces = folder_.path();
    options.with_band = false;
  }

  [[nodiscard]] TargetValidation run() const { return validate_targets(options); }
  [[nodiscard]] std::filesystem::path folder() const { return folder_.path(); }

  ValidateTargetsOptions options;

 private:
  TemporaryFolder folder_;
};

Json row_with(const std::string& id, const ChangeRow& change) {
  Json row = measured_row(id);
  change(row);
  return row;
}

// A row with a cache, whose bytes were recorded.
Json cached(const std::string& id, double mib, double byte_hit_pct) {
  return row_with(id, [&](Json& row) {
    row["cache_mib"] = mib;
    row["measured"]["byte_hit_pct"] = byte_hit_pct;
  });
}

// A recording of a model with one layer.
constexpr const char* kOneLayer =
    "# route_trace v1\n# model=x.gguf n_layer=1 n_expert=64 n_expert_used=2\n"
    "# layer=0 expert_bytes=100\nturn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n"
    "0,1,0,0,0,1,0.6,0,100\n0,1,0,0,1,2,0.4,0,100\n";

// Six decoded tokens of OLMoE's shape, two experts each.
std::string short_recording() {
  std::string text = "# route_trace v1\n# model=x.gguf n_layer=16 n_expert=64 n_expert_used=2\n";
  for (int layer = 0; layer < 16; ++layer) {
    text += fmt::format("# layer={} expert_bytes=3000000\n", layer);
  }
  text += "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes\n";
  for (int step = 0; step < 6; ++step) {
    for (int layer = 0; layer < 16; ++layer) {
      for (int slot = 0; slot < 2; ++slot) {
        text += fmt::format("0,1,{},{},{},{},0.5,0,3000000\n", step, layer, slot,
                            (step + slot * 7) % 64);
      }
    }
  }
  return text;
}

}  // namespace

TEST_SUITE("api/validate_targets") {
  TEST_CASE("a row that cannot be simulated is a reason and does not touch the others") {
    const auto other = [](const char* key, const Json& value) {
      return [key, value](Json& row) { row[Json::json_pointer(key)] = value; };
    };
    TargetsOnDisk targets(Rows{measured_row("good"),
                               row_with("device", other("/device", "a-phone")),
                               row_with("group", other("/group", "x-1b")),
                               row_with("size", other("/dense_bytes_per_token", nullptr)),
                               row_with("trace", other("/route_trace", "none.csv")),
                               row_with("setting", other("/threads", 100000)),
                               row_with("defect", other("/route_trace", "one.csv"))});
    std::ofstream(targets.folder() / "one.csv") << kOneLayer;
    const TargetValidation result = targets.run();
    CHECK(result.rows[0].simulated.is_object());
    CHECK(result.rows[0].reason.empty());
    const auto reason = [&](std::size_t row) {
      const TargetResult& one = result.rows.at(row);
      CHECK(one.simulated.is_null());
      CHECK(one.error.is_null());
      CHECK(one.band.is_null());
      CHECK(one.standin.empty());
      CHECK(!one.per_token);
      return one.reason;
    };
    CHECK(reason(1) == "no description of the device \"a-phone\"");
    CHECK(result.rows[2].simulated.is_object());  // its name is known, if not its group
    CHECK(reason(3) == "its dense_bytes_per_token is not recorded");
    CHECK(contains(reason(4), "its recorded routing is not there: "));
    CHECK(contains(reason(5), "/rows/5: /execution/threads: expected "));
    CHECK(contains(reason(6), "expected 16 MoE layers"));
    CHECK(result.summary.not_simulated == 5);
    CHECK(result.summary.all.rows == 2);
  }

  TEST_CASE("rows that the device was fitted to are marked") {
    TargetsOnDisk targets(Rows{measured_row("C1"), measured_row("other")});
    const TargetValidation result = targets.run();
    CHECK(result.rows[0].fitted);
    CHECK(!result.rows[1].fitted);
    CHECK(result.summary.fitted == 1);
    CHECK(result.summary.all.rows == 1);
    CHECK(result.devices == std::vector<std::string>{"oneplus-15r"});
  }

  TEST_CASE("errors hold io per MiB as well, simulated rows have the measured keys only") {
    const TargetValidation result = TargetsOnDisk(Rows{measured_row()}).run();
    const TargetResult& row = result.rows[0];
    CHECK(row.simulated.size() == row.row.measured.size());
    CHECK(row.error["io_ms_per_mib"].get<double>() ==
          doctest::Approx((1 + row.error["io_ms"].get<double>()) /
                              (1 + row.error["mib_per_token"].get<double>()) -
                          1));
    TargetsOnDisk without(Rows{row_with("R", [](Json& json) { json["measured"]["io_ms"] = 0; })});
    CHECK(!without.run().rows[0].error.contains("io_ms_per_mib"));
  }

  TEST_CASE("a row takes the locality of the nearest cache of its model and k, chosen or not") {
    const Json unknown = row_with("U", [](Json& row) {
      row["cache_mib"] = 700;
      row["measured"]["mib_per_token"] = nullptr;
    });
    Json other_k = cached("k", 700, 50);
    other_k["top_k"] = 6;
    TargetsOnDisk targets(Rows{unknown, cached("A", 400, 30), cached("B", 800, 50), other_k});
    const TargetValidation all = targets.run();
    CHECK(all.rows[0].standin == "synthetic routing with the locality of B");
    CHECK(contains(all.rows[2].standin, "conditioned on the bytes read"));
    targets.options.rows = {"U"};
    const TargetValidation one = targets.run();
    CHECK(one.rows.size() == 1);
    CHECK(one.rows[0].standin == all.rows[0].standin);
    CHECK(one.rows[0].simulated == all.rows[0].simulated);
  }

  TEST_CASE("what stands in for routing and for prefetch are both named, notes are handed on") {
    Json ahead = cached("P", 400, 30);
    ahead["prefetch"] = "next_layer_gate";
    Json lanes = measured_row("L");
    lanes["lanes"] = 1000;
    lanes["prefetch"] = 1;
    lanes["cache_mib"] = 400;
    lanes["measured"]["byte_hit_pct"] = 30;
    const TargetValidation result = TargetsOnDisk(Rows{ahead, lanes}).run();
    const std::string oracle = ": a noisy oracle of recall 0.886 and precision 0.886";
    CHECK(
        contains(result.rows[0].standin, "synthetic routing, conditioned on the bytes read (noi"));
    CHECK(contains(result.rows[0].standin, "; prefetch \"next_layer_gate\"" + oracle));
    CHECK(result.rows[0].notes.empty());
    CHECK(result.rows[0].simulated["byte_hit_pct"].get<double>() ==
          doctest::Approx(30).epsilon(0.005));
    CHECK(contains(result.rows[1].standin, "prefetch 1" + oracle));
    REQUIRE(result.rows[1].notes.size() == 1);
    CHECK(target_json(result)["rows"][1]["notes"][0] == result.rows[1].notes[0]);
    CHECK(target_json(result)["rows"][0]["notes"] == Json::array());
    std::ostringstream text;
    write_target_table(result, text);
    CHECK(contains(text.str(), "  note: 1000 lanes cut to the "));
    std::ostringstream markdown;
    write_target_markdown(result, markdown);
    CHECK(contains(markdown.str(), oracle + "; 1000 lanes cut to the "));
  }

  TEST_CASE("a row that drops more than noise explains takes the noise of one that drops none") {
    Json dropping = cached("D", 400, 50);
    dropping["drop_cold_frac"] = 0.9;
    const auto standin = [](const Rows& rows) { return TargetsOnDisk(rows).run().rows[0].standin; };
    const std::string alone = standin({dropping});
    CHECK(contains(alone, "noise 0.800, temperature "));
    const Json like = cached("B", 400, 45);
    TargetsOnDisk both(Rows{dropping, like});
    const TargetValidation result = both.run();
    const std::string noise = result.rows[1].standin.substr(result.rows[1].standin.find("(noise"));
    CHECK(contains(result.rows[0].standin, noise.substr(0, noise.size() - 1) + ", temperature "));
    CHECK(result.rows[0].simulated["byte_hit_pct"].get<double>() ==
          doctest::Approx(50).epsilon(0.005));
  }

  TEST_CASE("a row that reads less than any routing lends its locality only for want of another") {
    const Json unknown = row_with("U", [](Json& row) {
      row["cache_mib"] = 700;
      row["measured"]["mib_per_token"] = nullptr;
    });
    const Json least = cached("least", 700, 100);
    TargetsOnDisk targets(Rows{unknown, least, cached("B", 400, 30)});
    CHECK(targets.run().rows[0].standin == "synthetic routing with the locality of B");
    const TargetValidation alone = TargetsOnDisk(Rows{unknown, least}).run();
    CHECK(alone.rows[0].standin == "synthetic routing with the locality of least");
    CHECK(contains(alone.rows[1].standin, "the one that reads least"));
  }

  TEST_CASE("a device may be a file beside the targets, or anywhere") {
    TargetsOnDisk targets(Rows{});
    Json relative = row_with("R", [](Json& row) { row["device"] = "sub/d.json"; });
    Json absolute = row_with(
        "A", [&](Json& row) { row["device"] = (targets.folder() / "sub" / "d.json").string(); });
    Json defect = row_with("D", [](Json& row) { row["device"] = "bad.json"; });
    Json absent = row_with("N", [](Json& row) { row["device"] = "sub/none.json"; });
    std::ofstream(targets.options.targets)
        << targets_of({relative, absolute, defect, absent, measured_row("builtin")}).dump();
    std::filesystem::create_directory(targets.folder() / "sub");
    std::ofstream(targets.folder() / "sub" / "d.json") << target_device().text.dump();
    std::ofstream(targets.folder() / "bad.json") << "{";
    const TargetValidation result = targets.run();
    REQUIRE(result.rows[4].simulated.is_object());
    CHECK(result.rows[0].simulated == result.rows[4].simulated);
    CHECK(result.rows[1].simulated == result.rows[4].simulated);
    CHECK(contains(result.rows[2].reason, "bad.json: "));
    CHECK(result.rows[3].reason == "no description of the device \"sub/none.json\"");
    CHECK(result.devices.size() == 3);
  }

  TEST_CASE("where the nearest cannot be conditioned the next nearest lends its locality") {
    const Json unknown = row_with("U", [](Json& row) {
      row["cache_mib"] = 700;
      row["measured"]["mib_per_token"] = nullptr;
    });
    TargetsOnDisk targets(Rows{unknown, cached("impossible", 700, -50), cached("B", 400, 30)});
    const TargetValidation result = targets.run();
    CHECK(result.rows[0].standin == "synthetic routing with the locality of B");
    CHECK(contains(result.rows[1].reason, "no synthetic routing reads the measured "));
    TargetsOnDisk alone(Rows{unknown});
    CHECK(alone.run().rows[0].reason ==
          "neither its routing nor the bytes it read are recorded, and no other row of this model "
          "and k has them");
  }

  TEST_CASE("without a cache every expert is read, unless light ones are dropped") {
    TargetsOnDisk targets(Rows{measured_row("all"),
                               row_with("null",
                                        [](Json& row) {
                                          row["cache_mib"] = nullptr;
                                          row["measured"]["mib_per_token"] = 100;
                                        }),
                               row_with("dropped", [](Json& row) {
                                 row["drop_cold_frac"] = 0.9;
                                 row["measured"]["byte_hit_pct"] = 58;
                               })});
    const TargetValidation result = targets.run();
    for (const std::size_t row : {0U, 1U}) {
      CHECK(result.rows[row].standin.empty());
      CHECK(result.rows[row].simulated["mib_per_token"].get<double>() ==
            doctest::Approx((4 * 56e6 + 64 * 3 * 4096) / (1 << 20)));
    }
    CHECK(contains(result.rows[2].standin, "conditioned on the bytes read"));
    CHECK(result.rows[2].simulated["byte_hit_pct"].get<double>() ==
          doctest::Approx(58).epsilon(0.002));
  }

  TEST_CASE("contrasts are those between rows that were chosen") {
    const Json contrasts = parse_json(
        R"([{"a": "a", "b": "b", "metric": "tok_s", "effect_pct": -20, "score": true},
            {"a": "a", "b": "c", "metric": "tok_s", "effect_pct": 5}])",
        "contrasts");
    TargetsOnDisk targets(
        Rows{measured_row("a"), row_with("b", [](Json& row) { row["lanes"] = 1; }),
             measured_row("c")},
        contrasts);
    targets.options.rows = {"b", "a", "b"};
    const TargetValidation result = targets.run();
    REQUIRE(result.rows.size() == 2);
    CHECK(result.rows[0].row.id == "b");
    REQUIRE(result.contrasts.size() == 1);
    CHECK(result.contrasts[0].sign_right == true);
    CHECK(result.contrasts[0].simulated_pct.value() < -10);
    CHECK(result.summary.right_signs == 1);
  }

  TEST_CASE("an id that is not there and a device that is not there are errors of the command") {
    TargetsOnDisk targets(Rows{measured_row()});
    targets.options.rows = {"none"};
    CHECK(contains(user_error_of([&] { (void)targets.run(); }),
                   "t.json: expected the id of a row, got \"none\""));
    targets.options.rows.clear();
    targets.options.device = "a-phone";
    CHECK(contains(user_error_of([&] { (void)targets.run(); }), "a-phone"));
  }

  TEST_CASE("one device for all rows stands for what they name") {
    TargetsOnDisk targets(Rows{row_with("R", [](Json& row) { row["device"] = "a-phone"; })});
    targets.options.device = "rk3588";
    const TargetValidation result = targets.run();
    CHECK(result.rows[0].simulated.is_object());
    CHECK(result.devices == std::vector<std::string>{"rk3588"});
  }

  TEST_CASE(
      "the band spans what the device's uncertainties do, and a value none can have is left out") {
    TargetsOnDisk targets(Rows{measured_row()});
    Json device = target_device().text;
    targets.options.with_band = true;
    const auto band = [&] {
      std::ofstream(targets.folder() / "d.json") << device.dump();
      targets.options.device = (targets.folder() / "d.json").string();
      const TargetResult row = targets.run().rows.at(0);
      REQUIRE(row.simulated.is_object());
      CHECK(row.band["io_ms"][0] <= row.simulated["io_ms"]);
      CHECK(row.band["io_ms"][1] >= row.simulated["io_ms"]);
      CHECK(row.band.size() == 3);  // compute_ms was not measured
      return row.band["io_ms"][1].get<double>() - row.band["io_ms"][0].get<double>();
    };
    const double usual = band();
    CHECK(usual > 0);
    for (auto& entry : device["provenance"].items()) {
      if (entry.value().contains("spread")) entry.value()["spread"] = 0.5;
    }
    CHECK(band() > usual);
    for (auto& entry : device["provenance"].items()) {
      if (entry.value().contains("spread")) entry.value()["spread"] = 1.0;
    }
    CHECK(band() > 0);
  }

  TEST_CASE("a defect of a per-token table costs the comparison only") {
    Json row = row_with("R", [](Json& json) {
      json["route_trace"] = "r.csv";
      json["file"] = "w.csv";
      json["top_k"] = 2;
      json["tokens"] = 6;
      json["measured"]["tokens_dropped"] = 1;
    });
    TargetsOnDisk targets(Rows{row});
    std::ofstream(targets.folder() / "r.csv") << short_recording();
    std::ofstream(targets.folder() / "w.csv") << "step,wall_ms\n1,9\n2,8\n3,7\n4,9\n5,8\n6,7\n";
    const TargetResult good = targets.run().rows.at(0);
    CHECK(good.reason == "");
    CHECK(good.standin.empty());
    REQUIRE(good.per_token);
    CHECK(good.per_token->tokens == 5);
    std::ostringstream markdown;
    write_target_markdown(targets.run(), markdown);
    CHECK(contains(
        markdown.str(),
        fmt::format("| R | 5 | {:.1f} % | {:.1f} % | {:.3f} |\n", 100 * good.per_token->median_abs,
                    100 * good.per_token->mape, good.per_token->correlation)));
    std::ofstream(targets.folder() / "w.csv") << "step,wall_ms\n1,slow\n";
    const TargetResult bad = targets.run().rows.at(0);
    CHECK(!bad.per_token);
    CHECK(bad.simulated == good.simulated);
    CHECK(contains(bad.reason, "w.csv:2: wall_ms: expected a number > 0, got \"slow\""));
    std::filesystem::remove(targets.folder() / "w.csv");
    const TargetResult none = targets.run().rows.at(0);
    CHECK(!none.per_token);
    CHECK(none.reason.empty());
  }
}

}  // namespace moesim::test
