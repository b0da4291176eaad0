#include "hardware/max_min.h"

#include <algorithm>
#include <array>

#include "core/errors.h"

namespace moesim {
namespace {

constexpr std::size_t kMostAgents = 8;

}  // namespace

// Progressive filling (Bertsekas and Gallager, Data Networks, 6.5.2): whoever asks for no more than
// an equal share of what is left gets what it asks for; when nobody does, all share equally.
void max_min_rates(BytesPerSecond total, std::span<const std::uint64_t> caps,
                   std::span<std::uint64_t> rates) {
  if (caps.size() != rates.size() || caps.size() > kMostAgents) {
    throw InvariantError("max_min_rates: as many rates as caps, at most 8");
  }
  std::array<bool, kMostAgents> settled{};
  std::uint64_t left = to_integer(total);
  std::size_t open = caps.size();
  for (bool changed = true; changed && open > 0;) {
    changed = false;
    const std::uint64_t share = left / open;
    for (std::size_t i = 0; i < caps.size(); ++i) {
      if (settled[i] || caps[i] > share) continue;
      settled[i] = changed = true;
      rates[i] = caps[i];
      left -= caps[i];
      --open;
    }
  }
  if (open == 0) return;
  const std::uint64_t share = left / open;
  std::uint64_t remainder = left % open;
  for (std::size_t i = 0; i < caps.size(); ++i) {
    if (settled[i]) continue;
    // Every cap here is above the share, so one byte more fits.
    rates[i] = share + (remainder > 0 ? 1 : 0);
    remainder -= std::min<std::uint64_t>(remainder, 1);
  }
}

}  // namespace moesim
