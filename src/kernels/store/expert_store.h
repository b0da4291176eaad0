// The file that experts are read from for real: seeded weights, one record an expert, checksummed.
//
// A header of whole pages (shape, seed, checksums), then the records in the order of layer and
// expert. A record is gate, up and down, one after the other, each from the beginning of a page, so
// that every slice, any run of slices and the whole expert can be read directly to where the
// kernels use them. Numbers are little-endian.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "kernels/gemv.h"
#include "kernels/weight_matrix.h"

namespace moesim {

inline constexpr std::size_t kStorePage = 4096;

struct StoreShape {
  std::size_t layers = 0;
  std::size_t experts = 0;  // per layer
  std::size_t hidden = 0;
  std::size_t intermediate = 0;
  WeightFormat format = WeightFormat::kFp16;
  std::uint64_t seed = 1;

  bool operator==(const StoreShape&) const = default;
};

enum class Slice : std::uint8_t { kGate, kUp, kDown };

// Where the slices of an expert are in its record, and in a slot of memory that a record is read
// to.
class RecordLayout {
 public:
  explicit RecordLayout(const StoreShape& shape);

  // Offset from the beginning of the record, and bytes without what fills up the last page.
  [[nodiscard]] std::size_t offset(Slice slice) const;
  [[nodiscard]] std::size_t bytes(Slice slice) const;
  // Bytes with it: from this slice's beginning to the next one's.
  [[nodiscard]] std::size_t padded_bytes(Slice slice) const;
  // Of the whole record: a multiple of kStorePage.
  [[nodiscard]] std::size_t record_bytes() const;
  // Of the three slices, without padding.
  [[nodiscard]] std::size_t expert_bytes() const;
  // The matrices of a record that has been read to `record`.
  [[nodiscard]] ExpertWeights weights(const std::byte* record) const;

 private:
  StoreShape shape_;
  std::array<std::size_t, 4> offsets_{};  // of the slices, then the end
  std::array<std::size_t, 3> bytes_{};
};

// Bytes of a store file.
std::uint64_t store_bytes(const StoreShape& shape);

// Writes a store. It appears complete or not at all. UserError where the disk is full or the place
// cannot be written; nothing is left behind then. `progress`: bytes written and in all; may be
// empty. Weights of an expert: uniform, of such a size that activations keep theirs through a
// layer; they depend on seed, layer and expert only.
void write_expert_store(const std::filesystem::path& path, const StoreShape& shape,
                        const std::function<void(std::uint64_t, std::uint64_t)>& progress = {});

// A store that has been written. Reads the header only.
class ExpertStore {
 public:
  // UserError naming the file where it is none, is cut off or its header is damaged.
  explicit ExpertStore(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const StoreShape& shape() const { return shape_; }
  [[nodiscard]] const RecordLayout& layout() const { return layout_; }
  // Of a record in the file.
  [[nodiscard]] std::uint64_t offset(std::size_t layer, std::size_t expert) const;
  // XXH3 (64 bits) of a record, padding included, as it was written.
  [[nodiscard]] std::uint64_t checksum(std::size_t layer, std::size_t expert) const;
  // Whether `record` [record_bytes] holds this expert.
  [[nodiscard]] bool is_intact(std::size_t layer, std::size_t expert,
                               std::span<const std::byte> record) const;

 private:
  std::filesystem::path path_;
  StoreShape shape_;
  RecordLayout layout_;
  std::vector<std::uint64_t> checksums_;  // [layers * experts]
};

}  // namespace moesim
