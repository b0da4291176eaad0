// What this build calls itself.
#pragma once

namespace moesim {

const char* program_version();  // "0.1.0"
const char* program_commit();   // short commit hash; "unknown" outside a checkout

}  // namespace moesim
