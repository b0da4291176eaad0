// What the cache holds before the first event: the choice in a configuration, and the experts that
// it comes to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "cache/expert_cache.h"
#include "config/section.h"
#include "model/gate_spec.h"
#include "trace/trace.h"

namespace moesim {

enum class InitialKind : std::uint8_t {
  kEmpty,
  kHead,        // the lowest ids of each layer
  kTail,        // the highest
  kEven,        // ids at equal distances
  kRandom,      // ids drawn at random, seeded
  kHotPrefill,  // those that all prompts of the trace use most
  kLastPrompt,  // those that the last prompt token before the first decoded one uses
  kHotTrace,    // those that the whole trace uses most: knows the future
  kGiven,
};

struct InitialContents {
  InitialKind kind = InitialKind::kEmpty;
  std::vector<std::vector<std::uint64_t>> given;  // [layers], ids, the most valuable first
  std::string given_in;                           // "FILE: /pointer" of the list, for messages
  Json written = "empty";                         // as in the configuration
};

// The file that the contents were read from; empty where there was none.
struct InitialFile {
  std::string shown;
  std::filesystem::path path;  // as opened
};

// Reads the key `initial` of a cache section: a name, a list of lists of ids, or {"file": PATH}
// with such a list. Throws UserError.
InitialContents read_initial_contents(Section& cache, const std::filesystem::path& base_dir,
                                      InitialFile& file);

// What the contents depend on beside the cache's options.
struct InitialContext {
  const Trace* trace = nullptr;
  GateSpec gate;
  std::size_t k = 0;
  bool resets = false;  // the cache starts again with each sequence
  std::uint64_t seed = 1;
};

// The experts in the order in which CacheOptions::initial takes them, as many as may fit or more.
// One cache for all layers is shared out evenly, but for the hot experts, which compete over all
// layers. Experts that are never used are not hot. Throws UserError (naming `place`, the key in the
// configuration, or the list's own place) for lists that do not fit the trace or the cache, and
// where the trace has no prompt to look at, or one prompt would stand for all sequences.
std::vector<ExpertKey> initial_contents(const InitialContents& choice, const CacheOptions& options,
                                        const InitialContext& context, const std::string& place);

}  // namespace moesim
