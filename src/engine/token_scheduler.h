// ExpertFlow's token scheduler (arXiv 2410.17954, section 4.2; routing_and_compression.md, section
// 2.2): two adjacent batches are merged and split anew, so that tokens that use the same experts
// run together. A pure function of the tokens' routing paths.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace moesim {

// The routing paths of some tokens: which experts each uses, one bit per layer and expert.
class ExpertPaths {
 public:
  // `bits`: layers * experts.
  explicit ExpertPaths(std::size_t bits) : words_((bits + 63) / 64) {}

  // Appends a token without experts.
  void add_token() { bits_.resize(bits_.size() + words_, 0); }
  // The token added last uses expert `bit`.
  void add_expert(std::size_t bit) {
    bits_[bits_.size() - words_ + bit / 64] |= std::uint64_t{1} << bit % 64;
  }
  void clear() { bits_.clear(); }

  [[nodiscard]] std::size_t tokens() const { return bits_.size() / words_; }
  // Places in which the paths of two tokens differ: layers * experts * (1 - S) in the paper's
  // terms.
  [[nodiscard]] std::uint32_t hamming(std::size_t a, std::size_t b) const;
  // Distinct experts of these tokens, summed over layers.
  [[nodiscard]] std::uint64_t distinct(std::span<const std::uint32_t> tokens) const;

 private:
  std::size_t words_;
  std::vector<std::uint64_t> bits_;  // [tokens, words]
};

// Two batches of places in ExpertPaths, each increasing. The objective is the number of distinct
// experts of one batch plus that of the other.
struct TokenSplit {
  std::vector<std::uint32_t> first;
  std::vector<std::uint32_t> second;
  std::uint64_t objective_before = 0;  // of the first tokens and the rest, in the order given
  std::uint64_t objective_after = 0;   // never more
};

// The deterministic recipe of the reference: the two tokens that differ most are the centres (ties:
// lowest places); the `first_size` tokens that are closest to the first centre, compared with the
// second, form one batch (ties: lowest place); the new centre of each batch is the member most
// similar to its batch; at most ten rounds, or until the batches stay as they are. Where that would
// use more experts than the order given, the order given stays.
// REQUIRES: 0 < first_size < paths.tokens(). Equal batches: first_size = tokens / 2.
TokenSplit split_tokens(const ExpertPaths& paths, std::size_t first_size);

}  // namespace moesim
