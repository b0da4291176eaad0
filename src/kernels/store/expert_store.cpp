#include "kernels/store/expert_store.h"

#include "core/errors.h"
#include "kernels/store/store_header.h"

namespace moesim {
namespace {

// So that no size overflows: rows and columns to 2^24, which is 2^50 bytes of a record at most.
constexpr std::size_t kLargestSide = std::size_t{1} << 24;
// As many as LayerId and ExpertId can name.
constexpr std::size_t kLargestCount = std::size_t{1} << 16;
constexpr std::uint64_t kLargestStore = std::uint64_t{1} << 62;

void require_shape(const StoreShape& shape) {
  const auto within = [](std::size_t size, std::size_t largest) {
    return size >= 1 && size <= largest;
  };
  if (!within(shape.layers, kLargestCount) || !within(shape.experts, kLargestCount) ||
      !within(shape.hidden, kLargestSide) || !within(shape.intermediate, kLargestSide)) {
    throw InvariantError("a store has a size of 0 or one that is too large");
  }
}

std::size_t whole_pages(std::size_t bytes) {
  return (bytes + kStorePage - 1) / kStorePage * kStorePage;
}

std::size_t record_of(const StoreShape& shape, std::size_t layer, std::size_t expert) {
  if (layer >= shape.layers || expert >= shape.experts) {
    throw InvariantError("a store was asked for an expert that it does not have");
  }
  return layer * shape.experts + expert;
}

}  // namespace

RecordLayout::RecordLayout(const StoreShape& shape) : shape_(shape) {
  require_shape(shape);
  const std::size_t wide = shape.intermediate * weight_row_bytes(shape.format, shape.hidden);
  const std::size_t narrow = shape.hidden * weight_row_bytes(shape.format, shape.intermediate);
  bytes_ = {wide, wide, narrow};
  for (std::size_t i = 0; i < bytes_.size(); ++i) {
    offsets_[i + 1] = offsets_[i] + whole_pages(bytes_[i]);
  }
}

std::size_t RecordLayout::offset(Slice slice) const {
  return offsets_[static_cast<std::size_t>(slice)];
}

std::size_t RecordLayout::bytes(Slice slice) const {
  return bytes_[static_cast<std::size_t>(slice)];
}

std::size_t RecordLayout::padded_bytes(Slice slice) const {
  const auto index = static_cast<std::size_t>(slice);
  return offsets_[index + 1] - offsets_[index];
}

std::size_t RecordLayout::record_bytes() const { return offsets_.back(); }

std::size_t RecordLayout::expert_bytes() const { return bytes_[0] + bytes_[1] + bytes_[2]; }

ExpertWeights RecordLayout::weights(const std::byte* record) const {
  const auto matrix = [&](std::size_t rows, std::size_t columns, Slice slice) {
    return WeightMatrix{shape_.format, rows, columns, record + offset(slice)};
  };
  return {matrix(shape_.intermediate, shape_.hidden, Slice::kGate),
          matrix(shape_.intermediate, shape_.hidden, Slice::kUp),
          matrix(shape_.hidden, shape_.intermediate, Slice::kDown)};
}

std::uint64_t store_bytes(const StoreShape& shape) {
  const std::uint64_t record = RecordLayout(shape).record_bytes();
  const std::uint64_t records = std::uint64_t{shape.layers} * shape.experts;
  if (records > kLargestStore / record) throw InvariantError("a store is too large");
  return header_bytes(shape) + records * record;
}

ExpertStore::ExpertStore(const std::filesystem::path& path)
    : path_(path), layout_(StoreShape{1, 1, 1, 1}) {
  StoreHeader header = read_header(path);
  shape_ = header.shape;
  layout_ = RecordLayout(shape_);
  checksums_ = std::move(header.checksums);
}

std::uint64_t ExpertStore::offset(std::size_t layer, std::size_t expert) const {
  const std::uint64_t record = record_of(shape_, layer, expert);
  return header_bytes(shape_) + record * layout_.record_bytes();
}

std::uint64_t ExpertStore::checksum(std::size_t layer, std::size_t expert) const {
  return checksums_[record_of(shape_, layer, expert)];
}

bool ExpertStore::is_intact(std::size_t layer, std::size_t expert,
                            std::span<const std::byte> record) const {
  return record.size() == layout_.record_bytes() && xxh3(record) == checksum(layer, expert);
}

}  // namespace moesim
