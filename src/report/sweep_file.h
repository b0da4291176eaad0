// The file of a sweep: one result a line, appended while it goes on. Only whole lines are ever in
// it but for the last one of a process that was killed in the middle of a write.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <vector>

namespace moesim {

class SweepFile {
 public:
  // Without `resume` the file must not exist and is made; with it, it may. Nobody else can write it
  // through this class until it is closed. Throws UserError.
  SweepFile(const std::filesystem::path& path, bool resume);
  ~SweepFile();
  SweepFile(const SweepFile&) = delete;
  SweepFile& operator=(const SweepFile&) = delete;

  // The whole lines that were there, without their ends.
  [[nodiscard]] const std::vector<std::string>& found() const { return found_; }
  // Removes what follows the last whole line. Throws UserError where that is no part of a line.
  void cut();
  // Writes `line` and its end at once. Any thread may. Throws UserError with the file as it was.
  void append(const std::string& line);
  // While it is held nothing is written, so the file ends with a whole line.
  [[nodiscard]] std::unique_lock<std::mutex> pause() { return std::unique_lock(mutex_); }

 private:
  void read_lines();
  void require_cut_line() const;
  void shorten();  // to its whole lines
  [[noreturn]] void fail(const std::string& what) const;

  std::filesystem::path path_;
  std::mutex mutex_;
  int file_ = -1;
  std::uint64_t whole_ = 0;  // bytes of whole lines
  std::vector<std::string> found_;
  std::string rest_;  // what followed them
};

}  // namespace moesim
