// FLAME-MoE dump as CSV `seq,pos,layer,slot,expert,prob` after comment lines, rows already in
// sequence and position order of the text; optionally a second CSV `pos,token_id` for sequence 0.
//
// Kept: ranked ids, probabilities of the softmax over all experts (not renormalised), sequences,
// token ids of sequence 0. Left out: the shared experts and the dense layers before the first MoE
// layer; recorded layer numbers go to the metadata.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/errors.h"
#include "trace/importers/compact_recording.h"
#include "trace/importers/formats.h"

namespace moesim {
namespace {

using TokenKey = std::pair<std::size_t, std::size_t>;  // sequence, position

struct Row {
  LinePlace place;
  TokenKey token;
  std::size_t layer;  // as recorded
  std::size_t slot;
  std::size_t expert;
  float weight;
};

// "... (64 experts, top-6)" -> 64.
std::optional<std::size_t> experts_in(std::string_view comment) {
  const auto end = comment.find(" experts");
  if (end == std::string_view::npos) return std::nullopt;
  const auto open = comment.rfind('(', end);
  if (open == std::string_view::npos) return std::nullopt;
  return parse_integer(comment.substr(open + 1, end - open - 1));
}

// Takes the comment lines and returns the number of experts that they mention.
std::optional<std::size_t> read_comments(LineReader& lines, std::string& place) {
  std::optional<std::size_t> experts;
  while (lines.next_starts_with("#")) {
    lines.next();
    if (experts) continue;
    experts = experts_in(lines.line());
    place = lines.place().text();
    if (experts && (*experts == 0 || *experts > CompactRecording::kMaxExperts)) {
      throw lines.error(fmt::format("expected a number of experts in [1, {}], got {}",
                                    CompactRecording::kMaxExperts, *experts));
    }
  }
  return experts;
}

std::vector<Row> read_rows(LineReader& lines) {
  enum Column : std::size_t { kSeq, kPos, kLayer, kSlot, kExpert, kProb };
  constexpr std::size_t kLargestSequence = 0x7FFFFFFF;  // `sequence` is I32
  CsvRows csv(lines, {"seq", "pos", "layer", "slot", "expert", "prob"});
  std::vector<Row> rows;
  while (csv.next()) {
    const TokenKey token{csv.integer(kSeq, 0, kLargestSequence), csv.integer(kPos)};
    rows.push_back({lines.place(), token, csv.integer(kLayer, 0, 65535), csv.integer(kSlot),
                    csv.integer(kExpert), static_cast<float>(csv.number(kProb, kUnitInterval))});
  }
  if (rows.empty()) throw lines.error("expected rows after the header, got none");
  return rows;
}

// Recorded layer -> MoE layer. Throws UserError where a layer is missing in between.
std::map<std::size_t, std::size_t> layer_numbers(const std::vector<Row>& rows,
                                                 const std::string& file) {
  std::map<std::size_t, std::size_t> numbers;
  for (const Row& row : rows) numbers.emplace(row.layer, 0);
  const std::size_t first = numbers.begin()->first;
  std::size_t next = 0;
  for (auto& [recorded, number] : numbers) {
    if (recorded != first + next) {
      throw user_error(file, fmt::format("expected layers {} to {} without a gap, got none for "
                                         "layer {}",
                                         first, numbers.rbegin()->first, first + next));
    }
    number = next++;
  }
  return numbers;
}

// Token -> its index in the trace. Throws UserError where a position is missing in between.
std::map<TokenKey, std::size_t> token_numbers(const std::vector<Row>& rows,
                                              const std::string& file) {
  std::map<TokenKey, std::size_t> numbers;
  for (const Row& row : rows) numbers.emplace(row.token, 0);
  std::size_t next = 0;
  const TokenKey* before = nullptr;
  for (auto& [key, number] : numbers) {
    if (before != nullptr && before->first == key.first && before->second + 1 != key.second) {
      throw user_error(file, fmt::format("expected position {} of sequence {}, got none",
                                         before->second + 1, key.first));
    }
    before = &key;
    number = next++;
  }
  return numbers;
}

// Fills token_ids: -1 where unknown, since the file covers sequence 0 only.
void read_token_ids(const ImportRequest& request, const std::map<TokenKey, std::size_t>& tokens,
                    ImportedTrace& imported) {
  const std::string file = request.inputs[1].string();
  LineReader lines(request.inputs[1], file);
  while (lines.next_starts_with("#")) lines.next();
  CsvRows csv(lines, {"pos", "token_id"});
  std::vector<std::int32_t>& ids = imported.data.token_ids;
  ids.assign(tokens.size(), -1);
  while (csv.next()) {
    const std::size_t position = csv.integer(0);
    const auto found = tokens.find({0, position});
    if (found == tokens.end()) {
      throw lines.error(fmt::format("pos: expected a position of sequence 0, got {}", position));
    }
    if (ids[found->second] != -1) {
      throw lines.error(fmt::format("pos: expected each position once, got {} again", position));
    }
    ids[found->second] = static_cast<std::int32_t>(csv.integer(1, 0, 0x7FFFFFFF));
  }
  const auto unknown = std::count(ids.begin(), ids.end(), -1);
  if (unknown > 0)
    imported.notes.push_back(fmt::format("{} tokens have token id -1: not recorded", unknown));
}

void require_complete(const std::string& file, const std::map<TokenKey, std::size_t>& tokens,
                      std::size_t first_layer, const TraceData& data) {
  std::vector<TokenKey> keys;
  keys.reserve(tokens.size());
  for (const auto& [key, number] : tokens) keys.push_back(key);
  count_absent(data, [&](std::size_t token, std::size_t layer) -> std::optional<UserError> {
    return user_error(file,
                      fmt::format("expected rows of sequence {}, position {} for layer {}, "
                                  "got none",
                                  keys[token].first, keys[token].second, first_layer + layer));
  });
}

}  // namespace

ImportedTrace read_flame(const ImportRequest& request) {
  const std::string file = request.inputs.front().string();
  LineReader lines(request.inputs.front(), file);
  std::string place;
  const auto recorded_experts = read_comments(lines, place);
  const auto experts = known_experts(request, recorded_experts, place);
  const std::vector<Row> rows = read_rows(lines);
  const auto layers = layer_numbers(rows, file);
  const auto tokens = token_numbers(rows, file);

  ImportedTrace imported;
  TraceData& data = imported.data;
  CompactRecording recording(experts, std::nullopt);
  for (const Row& row : rows) {
    recording.add(row.place, tokens.at(row.token), layers.at(row.layer), row.slot, row.expert,
                  row.weight);
  }
  recording.build(tokens.size(), layers.size(), true, data);
  require_complete(file, tokens, layers.begin()->first, data);
  std::vector<std::size_t> numbers;
  numbers.reserve(layers.size());
  for (const auto& [recorded, number] : layers) numbers.push_back(recorded);
  data.metadata["layers"] = fmt::format("{}", fmt::join(numbers, ","));
  data.metadata.emplace("gate", "B");
  for (const auto& [key, number] : tokens) {
    data.sequence.push_back(static_cast<std::int32_t>(key.first));
  }
  if (request.inputs.size() > 1) read_token_ids(request, tokens, imported);
  note_unsorted_weights(data, imported.notes);
  if (!experts) note_guessed_experts(recording.experts_seen(), imported.notes);
  if (request.prefill_tokens == 0) {
    imported.notes.emplace_back("the phase is not recorded: all tokens count as decoded");
  }
  return imported;
}

}  // namespace moesim
