#include "trace/token_specialisation.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace moesim {
namespace {

// [decode tokens]: token ids, in the order of DecodeVisits.
std::vector<std::int32_t> decoded_ids(const Trace& trace) {
  std::vector<std::int32_t> ids;
  ids.reserve(trace.shape().tokens);
  for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
    if (trace.phase(token) == Phase::kDecode) ids.push_back(trace.token_id(token));
  }
  return ids;
}

// Numbers the ids that occur more than `limit` times.
std::map<std::int32_t, std::size_t> frequent_ids(const std::vector<std::int32_t>& ids,
                                                 std::size_t limit) {
  std::map<std::int32_t, std::size_t> counts;
  for (const std::int32_t id : ids) ++counts[id];
  std::map<std::int32_t, std::size_t> numbers;
  for (const auto& [id, count] : counts) {
    if (count > limit) numbers.emplace(id, numbers.size());
  }
  return numbers;
}

}  // namespace

double specialisation(const std::vector<std::size_t>& uses) {
  double all = 0;
  for (const std::size_t count : uses) all += static_cast<double>(count);
  if (all == 0) return 0;
  const auto experts = static_cast<double>(uses.size());
  double squares = 0;
  for (const std::size_t count : uses) {
    const double difference = static_cast<double>(count) / all - 1 / experts;
    squares += difference * difference;
  }
  return std::sqrt(squares / experts);
}

std::optional<TokenSpecialisation> token_specialisation(const Trace& trace,
                                                        const DecodeVisits& visits,
                                                        std::size_t limit) {
  if (!trace.has_token_ids()) return std::nullopt;
  const std::vector<std::int32_t> ids = decoded_ids(trace);
  const auto numbers = frequent_ids(ids, limit);
  const auto [tokens, layers, experts] = visits.shape();
  TokenSpecialisation result;
  result.ids = numbers.size();
  result.mean_sigma.reserve(layers);
  result.max_sigma.reserve(layers);
  for (const std::int32_t id : ids) result.tokens += numbers.count(id);
  for (std::size_t layer = 0; layer < layers; ++layer) {
    std::vector<std::vector<std::size_t>> uses(numbers.size(), std::vector<std::size_t>(experts));
    for (std::size_t token = 0; token < tokens; ++token) {
      const auto number = numbers.find(ids[token]);
      if (number == numbers.end()) continue;
      for (const std::uint16_t expert : visits.visit(token, layer)) ++uses[number->second][expert];
    }
    double sum = 0;
    double largest = 0;
    for (const auto& of_id : uses) {
      const double sigma = specialisation(of_id);
      sum += sigma;
      largest = std::max(largest, sigma);
    }
    result.mean_sigma.push_back(uses.empty() ? 0 : sum / static_cast<double>(uses.size()));
    result.max_sigma.push_back(largest);
  }
  return result;
}

Json to_json(const std::optional<TokenSpecialisation>& specialisation, std::size_t limit) {
  if (!specialisation) return nullptr;
  return {{"more_occurrences_than", limit},
          {"ids", specialisation->ids},
          {"tokens", specialisation->tokens},
          {"mean_sigma_by_layer", specialisation->mean_sigma},
          {"max_sigma_by_layer", specialisation->max_sigma}};
}

}  // namespace moesim
