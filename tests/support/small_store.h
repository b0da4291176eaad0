// An expert store of a few pages, for tests of what reads it.
#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "core/temporary_folder.h"
#include "kernels/store/expert_store.h"

namespace moesim::test {

// No slice is a multiple of a page.
inline StoreShape small_shape(WeightFormat format = WeightFormat::kFp16) {
  return {3, 5, 100, 70, format, 7};
}

inline std::vector<std::byte> content_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

// The file, its path and what is in it.
class SmallStore {
 public:
  explicit SmallStore(const StoreShape& shape = small_shape())
      : path_(folder_.path() / "experts.store") {
    write_expert_store(path_, shape);
    content_ = content_of(path_);
  }

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_.path(); }
  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] const std::vector<std::byte>& content() const { return content_; }

 private:
  TemporaryFolder folder_;
  std::filesystem::path path_;
  std::vector<std::byte> content_;
};

}  // namespace moesim::test
