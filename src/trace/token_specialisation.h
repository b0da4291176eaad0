// How far the token id alone decides which experts run (context-independent specialisation of
// OpenMoE, arXiv 2402.01739).
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "config/json_file.h"
#include "trace/decode_visits.h"
#include "trace/trace.h"

namespace moesim {

// Standard deviation over all experts of a token id's routing fractions: 0 where its uses are
// spread evenly; sqrt((1/E)(1 - 1/E)) where one of E experts has them all. `uses`: [experts], how
// often each ran for the id.
double specialisation(const std::vector<std::size_t>& uses);

struct TokenSpecialisation {
  std::size_t ids = 0;     // token ids that occur more often than the limit, in decode tokens
  std::size_t tokens = 0;  // decode tokens that have one of those
  // [layers], over these ids; 0 where there are none.
  std::vector<double> mean_sigma;
  std::vector<double> max_sigma;
};

// OpenMoE leaves out ids that occur 128 times or less.
inline constexpr std::size_t kRareToken = 128;

// Nullopt where the trace has no token_ids. `visits` are those of `trace`.
std::optional<TokenSpecialisation> token_specialisation(const Trace& trace,
                                                        const DecodeVisits& visits,
                                                        std::size_t limit = kRareToken);

// Null where there is nothing.
Json to_json(const std::optional<TokenSpecialisation>& specialisation, std::size_t limit);

}  // namespace moesim
