// An open file, as the readers need it.
#pragma once

#include <filesystem>
#include <utility>

#include "kernels/store/store_reader.h"

namespace moesim {

// Owns a descriptor; -1 stands for none.
class FileDescriptor {
 public:
  explicit FileDescriptor(int number = -1) : number_(number) {}
  ~FileDescriptor();
  FileDescriptor(FileDescriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  [[nodiscard]] int get() const { return number_; }

 private:
  int number_;
};

// Opens a regular file for reading. UserError where it cannot be, or not so (direct_support()).
FileDescriptor open_for_reading(const std::filesystem::path& path, ReadAccess access);

}  // namespace moesim
