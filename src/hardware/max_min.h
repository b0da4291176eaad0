// Max-min fair sharing of one capacity between agents with caps of their own.
#pragma once

#include <cstdint>
#include <span>

#include "core/units.h"

namespace moesim {

// Writes to rates[i] what agent i gets: no agent gets more than caps[i], the sum is at most
// `total`, and no agent can get more without another that has no more getting less. Integer bytes
// per second; what does not divide goes to the first agents. An agent with cap 0 gets 0.
// REQUIRES: rates.size() == caps.size() <= 8.
void max_min_rates(BytesPerSecond total, std::span<const std::uint64_t> caps,
                   std::span<std::uint64_t> rates);

}  // namespace moesim
