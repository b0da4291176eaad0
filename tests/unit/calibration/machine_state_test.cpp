#include "calibration/machine_state.h"

#include "kernels/store/expert_store.h"
#include "support/scenario.h"

namespace moesim {

TEST_SUITE("calibration/machine_state") {
  TEST_CASE("the distance is the larger of the two") {
    const MachineState expected{40, 4};
    CHECK(MachineState{40, 4}.distance(expected) == 0);
    CHECK(MachineState{42, 3}.distance(expected) == doctest::Approx(0.25));
    CHECK(MachineState{60, 4}.distance(expected) == doctest::Approx(0.5));
  }

  TEST_CASE("what a device file says: cores up to their limit, flash by its model") {
    const auto plan = test::Scenario(4).plan();  // 20 GB/s; 1 GB/s, 10 and 100 us a read
    const MachineState state = expected_state(*plan->config().device, 2, std::uint64_t{1} << 30);
    CHECK(state.stream_gbps == 20);
    CHECK(state.read_gbps == doctest::Approx(1.048576 / (1.048576 + 0.110)).epsilon(0.001));
  }

  TEST_CASE("a state is measured from small files too, and needs its memory") {
    const TemporaryFolder folder;
    const StoreShape shape{2, 4, 64, 32, WeightFormat::kFp16, 1};
    write_expert_store(folder.path() / "experts", shape);
    ReaderOptions options;
    options.access = ReadAccess::kBuffered;
    const auto reader = make_lane_reader(folder.path() / "experts", 1, options);
    ThreadTeam team(1);
    const PageMemory memory(kStateMemory);
    const MachineState state = measure_state(memory, team, *reader, store_bytes(shape));
    CHECK(state.stream_gbps > 0);
    CHECK(state.read_gbps > 0);
    CHECK(reader->outstanding() == 0);
    const PageMemory little(4096);
    CHECK_THROWS_AS(measure_state(little, team, *reader, store_bytes(shape)), InvariantError);
  }
}

}  // namespace moesim
