#include "calibration/machine_kernels.h"

#include "support/fake_machine.h"
#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("calibration/machine_kernels") {
  ProductRow row(std::size_t rows, std::size_t threads, double gbps) {
    ProductRow row{WeightFormat::kFp16, {rows, 2048}, threads, {}};
    const double seconds = row.bytes() / (gbps * 1e9);
    row.seconds = {seconds, 0, 5, seconds};
    return row;
  }

  TEST_CASE("threads: the fewest near the best, by the shapes that experts have") {
    CHECK(best_threads({row(1024, 1, 10), row(1024, 2, 16)}) == 2);
    CHECK(best_threads({row(1024, 1, 15.8), row(1024, 2, 16)}) == 1);
    // A router says nothing.
    CHECK(best_threads({row(1024, 1, 10), row(1024, 2, 16), row(64, 1, 90), row(64, 2, 1)}) == 2);
  }

  TEST_CASE("rates, scaling, model and experts of a machine that is a roofline") {
    FakeMachine machine;
    const MachineMeasurements measured = measure_machine(machine, calibration_plan(true, 3), {});
    const MachineKernels kernels = fit_machine_kernels(measured);
    CHECK(kernels.threads == 2);
    REQUIRE(kernels.rates.size() == 3);
    const FormatRate& half = kernels.rates.at("f16");
    CHECK(half.gbps > 13);
    CHECK(half.gbps < 14.4);
    CHECK(half.shapes >= 5);
    CHECK(half.repetitions >= 3);
    REQUIRE(kernels.scaling.size() == 2);
    CHECK(kernels.scaling[1].second / kernels.scaling[0].second ==
          doctest::Approx(1.6).epsilon(0.02));
    CHECK(kernels.fit.quality.all.model.median_ape < 0.05);
    CHECK(kernels.fit.model.knows("q4", 1));
    CHECK(kernels.experts.size() == measured.experts.size());
    CHECK(kernels.expert_error < 0.05);
  }

  TEST_CASE("formats are called as in device files") {
    CHECK(device_format(WeightFormat::kFp16) == "f16");
    CHECK(device_format(WeightFormat::kQ8) == "q8");
    CHECK(device_format(WeightFormat::kQ4) == "q4");
  }
}

}  // namespace moesim::test
