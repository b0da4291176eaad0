#include "hardware/flash_device.h"

#include <vector>

#include "support/testing.h"

namespace moesim::test {

TEST_SUITE("hardware/flash_device") {
  FlashSpec spec() {
    FlashSpec spec;
    spec.bw_gbps = 2.0;
    spec.dev_cmd_us = 10;
    spec.host_delay_us = 100;
    spec.copy_gbps = 10;
    spec.qd_limit = 4;
    return spec;
  }

  std::uint32_t started_tag(FlashDevice & flash) {
    const auto start = flash.start_next();
    REQUIRE(start.has_value());
    return start->read.tag;
  }

  // The tags in the order in which a single lane takes them.
  std::vector<std::uint32_t> drained(FlashDevice & flash) {
    std::vector<std::uint32_t> tags;
    while (const auto start = flash.start_next()) {
      tags.push_back(start->read.tag);
      flash.host_done(start->lane);
      flash.service_done();
    }
    return tags;
  }

  using Tags = std::vector<std::uint32_t>;

  TEST_CASE("times follow the four numbers of the spec") {
    const FlashDevice flash(spec(), 2);
    CHECK(flash.host_delay(1'000'000) == from_us(200));    // 100 us + 1 MB at 10 GB/s
    CHECK(flash.service_time(1'000'000) == from_us(510));  // 10 us + 1 MB at 2 GB/s
    CHECK(flash.command_time() == from_us(10));
    CHECK(flash.device_rate() == to_rate(2.0));

    FlashSpec direct = spec();
    direct.copy_gbps = 0;
    CHECK(FlashDevice(direct, 1).host_delay(1'000'000) == from_us(100));
  }

  TEST_CASE("the time of a read falls with the reads in flight where the spec says how") {
    FlashSpec falling = spec();
    falling.dev_cmd_us = 0;
    falling.command_curve = {{1, 50}, {2, 30}, {4, 10}};
    FlashDevice flash(falling, 4);
    const Duration bytes = from_us(500);  // 1 MB at 2 GB/s
    CHECK(flash.command_time() == from_us(10));
    CHECK(flash.service_time(1'000'000) == bytes + from_us(10));
    CHECK(flash.command_time_now() == from_us(50));  // of a read that would be alone
    const std::vector<double> expected = {50, 30, 20, 10, 10};
    for (std::uint32_t i = 0; i < expected.size(); ++i) {
      flash.enqueue({i, 1'000'000});
      CHECK(flash.service_time_now(1'000'000) == bytes + from_us(expected[i]));
      flash.start_next();  // the fifth finds no lane and waits
    }
    for (std::size_t lane = 0; lane < 4; ++lane) flash.host_done(lane);
    for (const double after : {10.0, 20.0, 30.0}) {
      flash.service_done();
      CHECK(flash.command_time_now() == from_us(after));
    }
    // One lane never has more than one read in flight, however many wait.
    FlashDevice single(falling, 1);
    for (std::uint32_t i = 0; i < 3; ++i) single.enqueue({i, 1'000'000});
    CHECK(single.command_time_now() == from_us(50));
    CHECK(single.command_time() == from_us(50));
  }

  TEST_CASE("lanes are limited by the queue depth, and there is at least one") {
    CHECK(FlashDevice(spec(), 2).lanes() == 2);
    CHECK(FlashDevice(spec(), 64).lanes() == 4);
    CHECK_THROWS_AS(FlashDevice(spec(), 0), InvariantError);
    CHECK_THROWS_AS(FlashDevice(FlashSpec{}, 1), InvariantError);  // no device rate
  }

  TEST_CASE("reads go in order of arrival, demand before speculation") {
    FlashDevice flash(spec(), 1);
    flash.enqueue({1, 100, true});
    flash.enqueue({2, 100, true});
    flash.enqueue({3, 100, false});
    flash.enqueue({4, 100, false});
    CHECK(drained(flash) == Tags{3, 4, 1, 2});
  }

  TEST_CASE("a read that holds a lane is not recalled for a demand read") {
    FlashDevice flash(spec(), 1);
    flash.enqueue({1, 100, true});
    CHECK(started_tag(flash) == 1);
    flash.enqueue({2, 100, false});
    CHECK_FALSE(flash.start_next().has_value());
    CHECK(flash.promote(1) == 0);
    CHECK(flash.cancel_queued(1) == 0);
    CHECK(flash.read_of(0).speculative);
  }

  TEST_CASE("the idle lane with the lowest number is taken") {
    FlashDevice flash(spec(), 3);
    for (std::uint32_t tag = 0; tag < 5; ++tag) flash.enqueue({tag, 100, false});
    for (std::size_t lane = 0; lane < 3; ++lane) CHECK(flash.start_next()->lane == lane);
    CHECK_FALSE(flash.start_next().has_value());
    CHECK(flash.busy_lanes() == 3);
    flash.host_done(2);
    flash.host_done(1);
    CHECK(flash.service_done().lane == 2);
    CHECK(flash.service_done().lane == 1);
    const auto start = flash.start_next();
    CHECK(start->lane == 1);
    CHECK(start->read.tag == 3);
    CHECK(flash.read_of(1).tag == 3);
  }

  TEST_CASE("the device serves one read at a time in the order in which the host parts end") {
    FlashDevice flash(spec(), 3);
    for (std::uint32_t tag = 10; tag < 13; ++tag) flash.enqueue({tag, 100, false});
    while (flash.start_next()) {
    }
    CHECK(flash.host_done(1) == std::optional<std::size_t>(1));
    CHECK(flash.host_done(2) == std::nullopt);
    CHECK(flash.host_done(0) == std::nullopt);
    const FlashDevice::ServiceEnd first = flash.service_done();
    CHECK(first.lane == 1);
    CHECK(first.read.tag == 11);
    CHECK(first.next == std::optional<std::size_t>(2));
    CHECK(flash.service_done().next == std::optional<std::size_t>(0));
    CHECK_FALSE(flash.idle());
    CHECK(flash.service_done().next == std::nullopt);
    CHECK(flash.idle());
  }

  TEST_CASE("promotion puts queued speculative reads behind the queued demand reads") {
    FlashDevice flash(spec(), 1);
    flash.enqueue({7, 100, true});
    flash.enqueue({8, 200, true});
    flash.enqueue({7, 300, true});
    flash.enqueue({1, 400, false});
    CHECK(flash.promote(7) == 2);
    CHECK(flash.promote(9) == 0);
    CHECK(drained(flash) == Tags{1, 7, 7, 8});
  }

  TEST_CASE("a promoted read is a demand read") {
    FlashDevice flash(spec(), 1);
    flash.enqueue({7, 100, true});
    flash.promote(7);
    CHECK_FALSE(flash.start_next()->read.speculative);
  }

  TEST_CASE("cancelling drops queued speculative reads only") {
    FlashDevice flash(spec(), 1);
    flash.enqueue({7, 100, false});
    for (const std::uint32_t tag : {7U, 8U, 7U, 9U}) flash.enqueue({tag, 100, true});
    CHECK(flash.cancel_queued(7) == 2);
    CHECK(flash.cancel_queued(7) == 0);
    CHECK(drained(flash) == Tags{7, 8, 9});
    CHECK(flash.idle());
  }

  TEST_CASE("queues keep their order when they wrap around and grow") {
    FlashDevice flash(spec(), 1);
    Tags expected;
    Tags seen;
    std::uint32_t next = 0;
    for (int round = 0; round < 40; ++round) {
      for (int i = 0; i < 50; ++i) {
        expected.push_back(next);
        flash.enqueue({next++, 100, false});
      }
      for (int i = 0; i < 20; ++i) {
        const auto start = flash.start_next();
        seen.push_back(start->read.tag);
        flash.host_done(start->lane);
        flash.service_done();
      }
      if (round == 10) flash.reserve(1000);
    }
    for (const std::uint32_t tag : drained(flash)) seen.push_back(tag);
    CHECK(seen == expected);
  }

  TEST_CASE("a bounced read holds its lane until it is copied, and the device serves the next") {
    FlashSpec bounced = spec();
    bounced.bounce_gbps = 2.5;
    FlashDevice flash(bounced, 2);
    CHECK(flash.bounces());
    CHECK(flash.copy_time(1'000'000) == from_us(400));
    CHECK(flash.host_delay(1'000'000) == FlashDevice(spec(), 2).host_delay(1'000'000));
    CHECK(flash.service_time(1'000'000) == FlashDevice(spec(), 2).service_time(1'000'000));
    for (std::uint32_t tag = 0; tag < 3; ++tag) flash.enqueue({tag, 100, false});
    while (flash.start_next()) {
    }
    flash.host_done(0);
    flash.host_done(1);
    CHECK(flash.service_done().next == std::optional<std::size_t>(1));
    CHECK(flash.busy_lanes() == 2);
    CHECK_FALSE(flash.start_next().has_value());
    CHECK(flash.read_of(0).tag == 0);
    flash.copy_done(0);
    CHECK(flash.start_next()->lane == 0);
    CHECK_THROWS_AS(flash.copy_done(0), InvariantError);
    CHECK_THROWS_AS(flash.copy_done(1), InvariantError);
    CHECK_THROWS_AS(flash.copy_done(2), InvariantError);
    CHECK(FlashDevice(spec(), 1).copy_time(1'000'000) == Duration::zero());
  }

  TEST_CASE("what the host does scales with the clock, what the device does does not") {
    FlashSpec bounced = spec();
    bounced.bounce_gbps = 2.5;
    FlashDevice flash(bounced, 1);
    flash.set_clock(0.5);
    CHECK(flash.host_delay(1'000'000) == from_us(400));
    CHECK(flash.copy_time(1'000'000) == from_us(800));
    CHECK(flash.service_time(1'000'000) == from_us(510));
    flash.set_clock(1);
    CHECK(flash.host_delay(1'000'000) == from_us(200));
    CHECK_THROWS_AS(flash.set_clock(0), InvariantError);
    flash.set_derate(0.5);
    CHECK(flash.service_time(1'000'000) == from_us(1010));
    CHECK(flash.host_delay(1'000'000) == from_us(200));
    CHECK(flash.copy_time(1'000'000) == from_us(400));
    CHECK_THROWS_AS(flash.set_derate(0), InvariantError);
  }

  TEST_CASE("a read is split at the longest command, which threads do not notice") {
    FlashSpec split = spec();
    split.max_cmd_kib = 512;
    split.cycles_per_cmd = 12'000;
    split.issue_clock_ghz = 3;
    const FlashDevice threads(split, 2);
    CHECK(threads.commands(1) == 1);
    CHECK(threads.commands(512 * 1024) == 1);
    CHECK(threads.commands(512 * 1024 + 1) == 2);
    CHECK(threads.commands(4 * kMiB) == 8);
    CHECK(threads.host_delay(1'000'000) == from_us(200));
    CHECK(FlashDevice(spec(), 1).commands(1'000'000'000) == 1);
    split.submission = Submission::kAsync;
    split.copy_gbps = 0;
    FlashDevice async(split, 2);
    CHECK(async.host_delay(4096) == from_us(4));
    CHECK(async.host_delay(4 * kMiB) == from_us(32));
    async.set_clock(0.5);
    CHECK(async.host_delay(4096) == from_us(8));
    split.issue_clock_ghz = 0;
    CHECK_THROWS_AS(FlashDevice(split, 1), InvariantError);
  }

  TEST_CASE("a single submitter hands over one read at a time") {
    FlashSpec async = spec();
    async.submission = Submission::kAsync;
    async.issue_clock_ghz = 3;
    FlashDevice flash(async, 3);
    CHECK(flash.submits_in_turn());
    for (std::uint32_t tag = 0; tag < 3; ++tag) flash.enqueue({tag, 100, true});
    CHECK(started_tag(flash) == 0);
    CHECK_FALSE(flash.start_next().has_value());
    flash.enqueue({9, 100, false});
    flash.host_done(0);
    CHECK(started_tag(flash) == 9);  // demand goes first at each turn
    flash.host_done(1);
    CHECK(started_tag(flash) == 1);
    CHECK(flash.busy_lanes() == 3);
  }

  TEST_CASE("steps out of order are a defect") {
    FlashDevice flash(spec(), 2);
    CHECK_THROWS_AS(flash.service_done(), InvariantError);
    CHECK_THROWS_AS(flash.host_done(0), InvariantError);
    CHECK_THROWS_AS(flash.host_done(2), InvariantError);
    flash.enqueue({1, 100, false});
    flash.start_next();
    flash.host_done(0);
    CHECK_THROWS_AS(flash.host_done(0), InvariantError);
  }
}

}  // namespace moesim::test
