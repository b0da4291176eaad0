// The first pages of a store file. docs/kernels.md lists the fields.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <vector>

#include "kernels/store/expert_store.h"

namespace moesim {

std::uint64_t xxh3(std::span<const std::byte> bytes);

// Bytes of the header, whole pages.
std::size_t header_bytes(const StoreShape& shape);
// checksums: [layers * experts].
std::vector<std::byte> encode_header(const StoreShape& shape,
                                     std::span<const std::uint64_t> checksums);

struct StoreHeader {
  StoreShape shape;
  std::vector<std::uint64_t> checksums;  // [layers * experts]
};

// UserError naming the file where it is no store, is cut off or its header is damaged.
StoreHeader read_header(const std::filesystem::path& path);

}  // namespace moesim
