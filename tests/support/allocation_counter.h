// Counts allocations, to show that hot paths make none. The counting operators new and delete are
// part of the whole test program.
#pragma once

#include <cstdint>

namespace moesim::test {

// Calls of any operator new by this thread since it started.
std::uint64_t allocations();

}  // namespace moesim::test
