// `--set /pointer=value` on a configuration (contract, section 5).
#pragma once

#include <string>
#include <vector>

#include "config/json_file.h"

namespace moesim {

// Applies the overrides in order. VALUE is JSON; what is not JSON is a string. Setting one capacity
// key removes the others; setting a `policy` key drops those parameters of the file that the new
// policy lacks, and says so in `warnings`; an object replaces the whole object. Throws UserError
// for text that is not "/POINTER=VALUE" and for a pointer through something that is no object.
void apply_overrides(Json& root, const std::vector<std::string>& overrides,
                     std::vector<std::string>& warnings);

}  // namespace moesim
