// Where the numbers of a device file come from.
#pragma once

#include "config/section.h"

namespace moesim {

// Checks `provenance` of a device against the numbers of the device and returns {JSON pointer of a
// number: {"tag", "source"}} with one entry per number, in the order of the file; an entry may also
// state the relative uncertainty of its number ("spread", in [0, 1]). An entry of the
// file may point at a number or at an array or object; the longest pointer that covers a number
// counts. `schema` and what stands below `calibration` need none. Throws UserError for a number
// that nothing covers, an entry that covers no number, an unknown tag and an empty source.
Json resolve_provenance(Section& device);

}  // namespace moesim
