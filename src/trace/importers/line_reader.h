// Text recordings line by line, so that every message names file and line: "FILE:12: expected ...".
// Blank lines are skipped and counted. CSV here is plain: no quotes, no escapes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/section.h"

namespace moesim {

// Where a value stands. `file` belongs to the LineReader's owner and must outlive the place.
struct LinePlace {
  const std::string* file = nullptr;
  std::size_t line = 0;                    // from 1
  [[nodiscard]] std::string text() const;  // "FILE:LINE"
};

// The text cut to one short quoted piece, for "got ...".
std::string shown_text(std::string_view text);

class LineReader {
 public:
  // `file` names the file in messages; it must outlive the reader and its places. Throws UserError
  // when the file cannot be read.
  LineReader(const std::filesystem::path& path, const std::string& file);

  // Moves to the next line that is not blank; false at the end of the file.
  bool next();
  // True when the next line that is not blank starts with `prefix`; does not move.
  [[nodiscard]] bool next_starts_with(std::string_view prefix) const;

  // The current line without its line end.
  [[nodiscard]] std::string_view line() const { return line_; }
  [[nodiscard]] LinePlace place() const { return {&file_, number_ == 0 ? 1 : number_}; }
  // "FILE:LINE: message" for the current line, not thrown.
  [[nodiscard]] UserError error(const std::string& message) const;
  // The current line as a JSON object; its messages begin "FILE:LINE: ". Throws UserError.
  [[nodiscard]] Section json() const;

 private:
  struct Found {
    std::string_view line;
    std::size_t number = 0;
    std::size_t end = 0;  // offset of the following line
  };
  [[nodiscard]] std::optional<Found> find_next() const;

  const std::string& file_;
  std::string text_;
  std::size_t offset_ = 0;  // of the line after the current one
  std::size_t number_ = 0;  // of the current line
  std::string_view line_;
};

// The rows of a CSV file after its header. Each column is read by its position.
class CsvRows {
 public:
  // Takes the next line of `lines` as the header. Throws UserError unless it is `columns`.
  CsvRows(LineReader& lines, std::vector<std::string> columns);

  // Moves to the next row; false at the end. Throws UserError on a wrong number of columns.
  bool next();
  // The value of a column. Throws UserError "FILE:LINE: COLUMN: expected ..., got ...".
  std::size_t integer(std::size_t column, std::size_t low = 0, std::size_t high = kLargest) const;
  double number(std::size_t column, const NumberRange& range) const;

 private:
  static constexpr std::size_t kLargest = std::numeric_limits<std::int64_t>::max();

  LineReader& lines_;
  std::vector<std::string> columns_;
  std::vector<std::string_view> values_;  // [columns] of the current row
};

// `text` as an integer in [0, 2^63), or nullopt.
std::optional<std::size_t> parse_integer(std::string_view text);

// An array of integers in [low, high] out of a JSON row. Throws UserError.
std::vector<std::size_t> integers(Section& row, const std::string& key, std::size_t low,
                                  std::size_t high);

}  // namespace moesim
