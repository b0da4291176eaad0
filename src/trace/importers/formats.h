// One reader per format; what they share of a recording's description. For importer.cpp and tests.
#pragma once

#include <optional>
#include <string>

#include "trace/importers/importer.h"

namespace moesim {

// Each throws UserError with file and line. REQUIRES: 1 <= inputs.size() <= the format's maximum.
ImportedTrace read_bigmoeonedge(const ImportRequest& request);
ImportedTrace read_speculative_moe(const ImportRequest& request);
ImportedTrace read_warp(const ImportRequest& request);
ImportedTrace read_flame(const ImportRequest& request);
ImportedTrace read_vllm_log(const ImportRequest& request);
ImportedTrace read_npy(const ImportRequest& request);

// The number of experts: as the recording states, as the user says, or nullopt. `place` is where
// the recording states it. Throws UserError when both are given and differ.
std::optional<std::size_t> known_experts(const ImportRequest& request,
                                         std::optional<std::size_t> recorded,
                                         const std::string& place);

}  // namespace moesim
