// Every way to read a store that this system has, for tests that hold for all of them.
#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/store/store_reader.h"

namespace moesim::test {

struct ReadWay {
  bool uring = false;
  std::size_t at_once = 1;  // lanes or depth
  ReadAccess access = ReadAccess::kBuffered;
  bool spins = false;

  [[nodiscard]] std::string name() const {
    return (uring ? "io_uring depth " : "lanes ") + std::to_string(at_once) +
           (access == ReadAccess::kDirect ? ", direct" : ", buffered") +
           (spins ? ", spinning" : "");
  }
  std::unique_ptr<StoreReader> open(const std::filesystem::path& path, ReadFault fault = {},
                                    unsigned attempts = 3) const {
    ReaderOptions options;
    options.access = access;
    options.attempts = attempts;
    options.fault = std::move(fault);
    options.spin = std::chrono::microseconds(spins ? 50 : 0);
    return uring ? make_uring_reader(path, at_once, std::move(options))
                 : make_lane_reader(path, at_once, std::move(options));
  }
};

// For the file `path`. Prints what is left out because the system lacks it.
inline std::vector<ReadWay> read_ways(const std::filesystem::path& path) {
  const ReadSupport direct = direct_support(path);
  const ReadSupport uring = uring_support();
  if (!direct.available) MESSAGE("without direct reads: ", direct.reason);
  if (!uring.available) MESSAGE("without io_uring: ", uring.reason);
  std::vector<ReadWay> ways;
  for (const ReadAccess access : {ReadAccess::kBuffered, ReadAccess::kDirect}) {
    if (access == ReadAccess::kDirect && !direct.available) continue;
    for (const std::size_t lanes : {1U, 2U, 4U}) {
      ways.push_back({false, lanes, access, false});
      ways.push_back({false, lanes, access, true});
    }
    if (!uring.available) continue;
    for (const std::size_t depth : {1U, 4U, 32U}) ways.push_back({true, depth, access, false});
  }
  return ways;
}

}  // namespace moesim::test
