#include "hardware/kernel_model.h"

#include <cmath>

#include "hardware/compute_spec.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("hardware/kernel_model") {
  // 10 GB/s and 5 us, slower by exp(0.5) for each doubling of columns above 1024.
  static Json curve() {
    return {{"threads", 2},
            {"launch_us", 5.0},
            {"rate_gbps", 10.0},
            {"rows", {256, 4096}},
            {"columns", {512, 2048}},
            {"mib", {0.25, 16.0}},
            {"residual_range", {-0.5, 0.5}},
            {"residual", {{"columns", 0.5}}}};
  }

  static KernelModel read(const Json& json) {
    return read_kernel_model(Section(json, "d.json", "/cpu/kernel_model"));
  }

  static std::string error_with(const char* key, const Json& value) {
    Json changed = curve();
    changed[key] = value;
    return user_error_of([&] { read({{"f16", {changed}}}); });
  }

  TEST_CASE("a row of blocks is padded to whole blocks") {
    CHECK(kernel_row_bytes("f16", 100) == 200);
    CHECK(kernel_row_bytes("q8", 64) == 68);
    CHECK(kernel_row_bytes("q8", 65) == 102);
    CHECK(kernel_row_bytes("q4", 64) == 36);
    CHECK(kernel_row_bytes("q4", 1) == 18);
    CHECK_THROWS_WITH_AS(kernel_row_bytes("q5", 64), "no kernel has weights of the format \"q5\"",
                         InvariantError);
  }

  TEST_CASE("time is launch and bytes at the rate, times the residual") {
    const KernelModel model = read({{"f16", {curve()}}});
    const double plain = 1024.0 * 1024 * 2 / 10e9;
    CHECK(model.seconds("f16", 1024, 1024, 2) == doctest::Approx(5e-6 + plain));
    CHECK(model.seconds("f16", 512, 2048, 2) == doctest::Approx(5e-6 + plain * std::exp(0.5)));
    CHECK(model.launch_seconds("f16", 2) == doctest::Approx(5e-6));
  }

  TEST_CASE("outside the measured shapes the residual stays what it is at the edge") {
    const KernelModel model = read({{"f16", {curve()}}});
    const double bytes = 2.0 * 4096 * 65536;
    CHECK(model.seconds("f16", 4096, 65536, 2) ==
          doctest::Approx(5e-6 + bytes / 10e9 * std::exp(0.5)));
    CHECK_FALSE(model.covers("f16", 4096, 65536, 2));
    CHECK_FALSE(model.covers("f16", 128, 1024, 2));   // rows
    CHECK_FALSE(model.covers("f16", 256, 256, 2));    // columns
    CHECK_FALSE(model.covers("f16", 4097, 2048, 2));  // bytes too
    CHECK(model.covers("f16", 4096, 2048, 2));
    CHECK(model.covers("f16", 256, 512, 2));
  }

  TEST_CASE("bytes outside the measured ones are outside, though rows and columns are not") {
    Json narrow = curve();
    narrow["mib"] = {1.0, 8.0};
    const KernelModel model = read({{"f16", {narrow}}});
    CHECK_FALSE(model.covers("f16", 4096, 2048, 2));
    CHECK_FALSE(model.covers("f16", 256, 512, 2));
    CHECK(model.covers("f16", 1024, 1024, 2));
  }

  TEST_CASE("the residual does not leave the range that it had at measured shapes") {
    Json steep = curve();
    steep["residual"] = {{"columns", 2.0}, {"one", 0.1}};
    const KernelModel model = read({{"f16", {steep}}});
    const double plain = 1024.0 * 1024 * 2 / 10e9;
    CHECK(model.seconds("f16", 512, 2048, 2) == doctest::Approx(5e-6 + plain * std::exp(0.5)));
    CHECK(model.seconds("f16", 1024, 1024, 2) == doctest::Approx(5e-6 + plain * std::exp(0.1)));
  }

  TEST_CASE("every feature has its value") {
    const auto value = [](const char* name) {
      return kernel_features()[kernel_feature(name)].value(2, 3, 4);
    };
    CHECK(value("one") == 1);
    CHECK(value("rows") == 2);
    CHECK(value("columns") == 3);
    CHECK(value("rows_squared") == 4);
    CHECK(value("columns_squared") == 9);
    CHECK(value("rows_times_columns") == 6);
    CHECK(value("narrow") == 1.0 / 32);
    CHECK(value("above_quarter_mib") == 6);
    CHECK(value("above_1_mib") == 4);
    CHECK(value("above_4_mib") == 2);
    CHECK(value("above_16_mib") == 0);
    CHECK(value("above_64_mib") == 0);
    CHECK(kernel_features().size() == 12);
    CHECK_THROWS_WITH_AS(kernel_feature("depth"), "no feature of kernels has the name \"depth\"",
                         InvariantError);
    const KernelPlace place = kernel_place("f16", {2048, 512});
    CHECK(place.mib == 2);
    CHECK(place.x == 1);
    CHECK(place.y == -1);
    CHECK(place.z == 1);
  }

  TEST_CASE("a model knows formats with their thread counts, and nothing else") {
    Json four = curve();
    four["threads"] = 4;
    const KernelModel model = read({{"f16", {curve(), four}}, {"q4", {curve()}}});
    CHECK(model.knows("f16", 2));
    CHECK(model.knows("f16", 4));
    CHECK(model.knows("q4", 2));
    CHECK_FALSE(model.knows("q4", 4));
    CHECK_FALSE(model.knows("q8", 2));
    CHECK_FALSE(model.knows("f16", 1));
    CHECK_FALSE(model.empty());
    CHECK(KernelModel().empty());
    CHECK_THROWS_WITH_AS(static_cast<void>(model.seconds("q4", 64, 64, 4)),
                         "the kernel model does not know q4 with 4 threads", InvariantError);
    CHECK_THROWS_WITH_AS(KernelModel({model.curves()[0], model.curves()[0]}),
                         "two kernel curves of one format and number of threads", InvariantError);
  }

  TEST_CASE("what is written is what was read") {
    Json four = curve();
    four["threads"] = 4;
    const Json json = {{"f16", {curve(), four}}, {"q8", {curve()}}};
    CHECK(kernel_model_json(read(json)) == json);
    CHECK(kernel_model_json(KernelModel()) == Json::object());
  }

  TEST_CASE("it is part of the CPU in a device file, and may be absent") {
    const auto cpu = [](const Json& json) { return read_cpu(Section(json, "d.json", "/cpu")); };
    CHECK(cpu({{"threads", 2}}).kernel_model.empty());
    CHECK(
        cpu({{"threads", 2}, {"kernel_model", {{"f16", {curve()}}}}}).kernel_model.knows("f16", 2));
  }

  TEST_CASE("what is no model is refused by name") {
    const auto error = [](const Json& json) { return user_error_of([&] { read(json); }); };
    CHECK(contains(error(Json::object()),
                   "d.json: /cpu/kernel_model: expected curves of f16, q8 or q4, got none"));
    CHECK(
        contains(error({{"q5", {curve()}}}), "/cpu/kernel_model/q5: unknown key; known here: f16"));
    CHECK(contains(error({{"f16", curve()}}),
                   "/cpu/kernel_model/f16: expected an array of curves, one per number of threads, "
                   "got {"));
    CHECK(contains(error({{"f16", Json::array()}}), "one per number of threads, got []"));
    CHECK(contains(error({{"f16", {curve(), curve()}}}),
                   "/cpu/kernel_model/f16: expected rising threads, got 2 after 2"));
    CHECK(contains(error({{"f16", {1}}}), "/cpu/kernel_model/f16/0: expected an object"));
  }

  TEST_CASE("values of a curve have ranges") {
    const std::string place = "d.json: /cpu/kernel_model/f16/0/";
    CHECK(contains(error_with("threads", 0), place + "threads: expected"));
    CHECK(contains(error_with("launch_us", -1), place + "launch_us: expected"));
    CHECK(contains(error_with("rate_gbps", 0), place + "rate_gbps: expected"));
    CHECK(contains(error_with("rows", {0, 8}), place + "rows: expected"));
    CHECK(contains(error_with("rows", {8}), place + "rows: expected [lowest, highest], got [8]"));
    CHECK(contains(error_with("columns", {9, 8}),
                   place + "columns: expected [lowest, highest], got [9,8]"));
    CHECK(contains(error_with("mib", {0.0, 8.0}), place + "mib: expected"));
    CHECK(contains(error_with("residual_range", {-6.0, 0.0}), place + "residual_range: expected"));
    CHECK(
        contains(error_with("residual", {{"columns", 101}}), place + "residual/columns: expected"));
    CHECK(contains(error_with("residual", {{"depth", 1}}),
                   place + "residual/depth: unknown key; known here: above_16_mib"));
    CHECK(contains(error_with("residual", 1), place + "residual: expected an object"));
    CHECK(contains(error_with("clock", 1), place + "clock: unknown key"));
    CHECK(contains(error_with("mib", nullptr), place + "mib: "));
  }
}

}  // namespace moesim::test
