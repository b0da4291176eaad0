// What this build calls itself.
#pragma once

namespace moesim {

extern const char* const kVersion;  // "0.1.0"
extern const char* const kCommit;   // short commit hash; "unknown" outside a checkout

}  // namespace moesim
