// Parameters shared by the policies that count uses.
#pragma once

#include "config/registry.h"

namespace moesim {

inline const Parameter kCounts{
    "counts",
    "persistent",
    "persistent: uses are counted for ever; resident: the count dies with eviction",
    "string",
    "persistent|resident",
    "persistent: the reference's golden rows; resident: CECAR"};

inline const Parameter kProtectCurrentToken{
    "protect_current_token",
    true,
    "the experts of the current visit never leave while others are left",
    "boolean",
    "true|false",
    "the reference's golden rows"};

inline bool read_persistent_counts(Section& config) {
  return config.choice(kCounts.name, {"persistent", "resident"}) == "persistent";
}

}  // namespace moesim
