#include "engine/initial_contents.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "core/files.h"
#include "core/rng.h"
#include "routing/gate.h"

namespace moesim {
namespace {

using ByLayer = std::vector<std::vector<ExpertId>>;

const std::vector<std::string> kNames{
    "empty", "head", "tail", "even", "random", "hot_prefill", "last_prompt_token", "hot_trace"};
constexpr const char* kListForm =
    "expected a list of expert ids for each layer, such as [[0, 5], [3, 1]]";

std::vector<std::vector<std::uint64_t>> parse_lists(const Json& json, const std::string& place) {
  const auto refuse = [&](const Json& got) {
    return user_error(place, kListForm + (", got " + got.dump()));
  };
  if (!json.is_array()) throw refuse(json);
  std::vector<std::vector<std::uint64_t>> lists;
  lists.reserve(json.size());
  for (const Json& layer : json) {
    if (!layer.is_array()) throw refuse(layer);
    lists.emplace_back();
    lists.back().reserve(layer.size());
    for (const Json& id : layer) {
      if (!id.is_number_unsigned()) throw refuse(id);
      lists.back().push_back(id.get<std::uint64_t>());
    }
  }
  return lists;
}

ExpertId expert_id(std::size_t expert) {
  return static_cast<ExpertId>(static_cast<std::uint16_t>(expert));
}
LayerId layer_id(std::size_t layer) {
  return static_cast<LayerId>(static_cast<std::uint16_t>(layer));
}

std::uint64_t size_of_layer(const CacheOptions& options, std::size_t layer) {
  const std::size_t experts = options.shape.experts;
  const auto sizes = std::span(options.expert_size).subspan(layer * experts, experts);
  return std::accumulate(sizes.begin(), sizes.end(), std::uint64_t{0});
}

// How many experts of mean size a layer has room for; its share of a cache for all is rounded up,
// since the capacity cuts off what is too much.
std::size_t places_of(const CacheOptions& options, std::size_t layer) {
  const std::size_t experts = options.shape.experts;
  std::uint64_t all = std::max<std::uint64_t>(1, size_of_layer(options, layer));
  std::uint64_t room = options.capacity * experts;
  if (options.scope == CacheScope::kGlobal) {
    all = 0;
    for (std::size_t l = 0; l < options.shape.layers; ++l) all += size_of_layer(options, l);
    room += all - 1;
  }
  return std::min<std::size_t>(experts, room / all);
}

ByLayer evenly(const CacheOptions& options) {
  ByLayer chosen(options.shape.layers);
  for (std::size_t layer = 0; layer < chosen.size(); ++layer) {
    const std::size_t places = places_of(options, layer);
    chosen[layer].reserve(places);
    for (std::size_t i = 0; i < places; ++i) {
      chosen[layer].push_back(expert_id(i * options.shape.experts / places));
    }
  }
  return chosen;
}

// All experts of every layer: ascending, descending, or shuffled (Fisher and Yates).
ByLayer ordered(const CacheOptions& options, InitialKind kind, std::uint64_t seed) {
  Rng rng = Rng::for_component(seed, "cache/initial");
  ByLayer chosen(options.shape.layers);
  for (auto& experts : chosen) {
    experts.reserve(options.shape.experts);
    for (std::size_t e = 0; e < options.shape.experts; ++e) experts.push_back(expert_id(e));
    if (kind == InitialKind::kTail) std::reverse(experts.begin(), experts.end());
    if (kind != InitialKind::kRandom) continue;
    for (std::size_t left = experts.size(); left > 1; --left) {
      std::swap(experts[left - 1], experts[rng.below(left)]);
    }
  }
  return chosen;
}

// The first of each layer, then the second of each layer, and so on.
std::vector<ExpertKey> in_turn(const ByLayer& chosen, std::size_t experts) {
  std::vector<ExpertKey> keys;
  keys.reserve(chosen.size() * experts);
  for (std::size_t rank = 0; rank < experts; ++rank) {
    for (std::size_t layer = 0; layer < chosen.size(); ++layer) {
      if (rank >= chosen[layer].size()) continue;
      keys.push_back(expert_key(layer_id(layer), chosen[layer][rank], experts));
    }
  }
  return keys;
}

// The model's own routing of a trace.
class NativeRouting {
 public:
  explicit NativeRouting(const InitialContext& context)
      : trace_(*context.trace),
        gate_(context.gate, trace_.shape().experts, context.k),
        logits_(trace_.shape().experts),
        ids_(trace_.recorded_k()) {}

  // Best first; empty where the token does not visit the layer. Valid until the next call.
  std::span<const ExpertId> experts(std::size_t token, LayerId layer) {
    if (trace_.has_logits()) {
      trace_.read_logits(token, layer, logits_);
      gate_.set_logits(logits_, trace_.selection_bias(layer));
    } else {
      gate_.set_recorded(std::span(ids_).first(trace_.read_ids(token, layer, ids_)), {});
    }
    return gate_.native().ids;
  }

 private:
  const Trace& trace_;
  Gate gate_;
  std::vector<float> logits_;
  std::vector<ExpertId> ids_;
};

// [layers * experts]: how often each expert is used, in prompts only or in all tokens of the trace.
std::vector<std::uint64_t> count_uses(const InitialContext& context, bool prompts_only) {
  const RoutingShape& shape = context.trace->shape();
  NativeRouting routing(context);
  std::vector<std::uint64_t> uses(shape.layers * shape.experts, 0);
  for (std::size_t token = 0; token < shape.tokens; ++token) {
    if (prompts_only && context.trace->phase(token) != Phase::kPrefill) continue;
    for (std::size_t layer = 0; layer < shape.layers; ++layer) {
      for (const ExpertId expert : routing.experts(token, layer_id(layer))) {
        ++uses[index(expert_key(layer_id(layer), expert, shape.experts))];
      }
    }
  }
  return uses;
}

// The experts of the last prompt token before the first decoded one.
ByLayer last_prompt(const InitialContext& context, const std::string& place) {
  const Trace& trace = *context.trace;
  std::size_t decoded = 0;
  while (decoded < trace.shape().tokens && trace.phase(decoded) == Phase::kPrefill) ++decoded;
  if (decoded == 0) {
    throw user_error(place, fmt::format("last_prompt_token needs a prompt before the first decoded "
                                        "token, which the trace {} lacks",
                                        trace.shown()));
  }
  if (context.resets) {
    throw user_error(place,
                     "expected another choice than last_prompt_token with reset \"sequence\": the "
                     "prompt of the first sequence says nothing of the others");
  }
  NativeRouting routing(context);
  ByLayer chosen(trace.shape().layers);
  for (std::size_t layer = 0; layer < chosen.size(); ++layer) {
    const auto experts = routing.experts(decoded - 1, layer_id(layer));
    chosen[layer].assign(experts.begin(), experts.end());
  }
  return chosen;
}

std::vector<ExpertKey> hottest(const std::vector<std::uint64_t>& uses) {
  std::vector<ExpertKey> keys;
  keys.reserve(uses.size());
  for (std::size_t key = 0; key < uses.size(); ++key) {
    if (uses[key] > 0) keys.push_back(static_cast<ExpertKey>(key));
  }
  std::stable_sort(keys.begin(), keys.end(),
                   [&](ExpertKey a, ExpertKey b) { return uses[index(a)] > uses[index(b)]; });
  return keys;
}

// Checks that the lists fit the trace and the cache.
ByLayer checked(const InitialContents& choice, const CacheOptions& options) {
  const RoutingShape& shape = options.shape;
  if (choice.given.size() != shape.layers) {
    throw user_error(choice.given_in.substr(0, choice.given_in.find_last_not_of(": ") + 1),
                     fmt::format("expected lists for {} layers as in the trace, got {}",
                                 shape.layers, choice.given.size()));
  }
  ByLayer chosen(shape.layers);
  std::vector<std::uint64_t> used(shape.layers, 0);
  for (std::size_t layer = 0; layer < shape.layers; ++layer) {
    const std::string place = fmt::format("{}/{}", choice.given_in, layer);
    chosen[layer].reserve(choice.given[layer].size());
    for (const std::uint64_t id : choice.given[layer]) {
      if (id >= shape.experts) {
        throw user_error(place, fmt::format("expected ids below {}, got {}", shape.experts, id));
      }
      const ExpertId expert = expert_id(id);
      if (std::find(chosen[layer].begin(), chosen[layer].end(), expert) != chosen[layer].end()) {
        throw user_error(place, fmt::format("expected every expert once, got {} twice", id));
      }
      chosen[layer].push_back(expert);
      const bool global = options.scope == CacheScope::kGlobal;
      std::uint64_t& sum = used[global ? 0 : layer];
      sum += options.expert_size[index(expert_key(layer_id(layer), expert, shape.experts))];
      if (sum > options.capacity) {
        throw user_error(place, fmt::format("expected no more experts than the cache holds{}",
                                            global ? " in all" : " of a layer"));
      }
    }
  }
  return chosen;
}

}  // namespace

InitialContents read_initial_contents(Section& cache, const std::filesystem::path& base_dir,
                                      InitialFile& file) {
  InitialContents contents;
  cache.accept("initial");
  if (!cache.has("initial")) return contents;
  contents.written = cache.raw("initial");
  if (contents.written.is_array()) {
    contents.kind = InitialKind::kGiven;
    contents.given_in = cache.file() + ": " + cache.pointer() + "/initial";
    contents.given = parse_lists(contents.written, contents.given_in);
  } else if (contents.written.is_object()) {
    Section reference = cache.object("initial");
    file.shown = reference.string("file");
    file.path = base_dir / file.shown;
    contents.kind = InitialKind::kGiven;
    contents.given_in = file.shown + ": ";
    try {
      contents.given = parse_lists(read_json_file(file.path, file.shown), file.shown);
    } catch (const UserError& error) {
      throw reference.error("file", error.what());
    }
  } else {
    const std::string name = cache.choice("initial", kNames);
    const auto at = std::find(kNames.begin(), kNames.end(), name) - kNames.begin();
    contents.kind = static_cast<InitialKind>(at);
  }
  return contents;
}

std::vector<ExpertKey> initial_contents(const InitialContents& choice, const CacheOptions& options,
                                        const InitialContext& context, const std::string& place) {
  const std::size_t experts = options.shape.experts;
  switch (choice.kind) {
    case InitialKind::kEmpty:
      break;
    case InitialKind::kEven:
      return in_turn(evenly(options), experts);
    case InitialKind::kHead:
    case InitialKind::kTail:
    case InitialKind::kRandom:
      return in_turn(ordered(options, choice.kind, context.seed), experts);
    case InitialKind::kGiven:
      return in_turn(checked(choice, options), experts);
    case InitialKind::kLastPrompt:
      return in_turn(last_prompt(context, place), experts);
    case InitialKind::kHotPrefill:
    case InitialKind::kHotTrace: {
      const bool prompts = choice.kind == InitialKind::kHotPrefill;
      auto keys = hottest(count_uses(context, prompts));
      if (prompts && keys.empty()) {
        throw user_error(place,
                         fmt::format("hot_prefill counts prompt tokens, which the trace {} lacks",
                                     context.trace->shown()));
      }
      return keys;
    }
  }
  return {};
}

}  // namespace moesim
