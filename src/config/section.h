// One checked JSON object: every value is read once, with its type and range; what nobody read is
// an error. Copies share what has been read.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "config/json_file.h"
#include "core/errors.h"

namespace moesim {

// A closed or half-open range of numbers; `text` is what error messages print, "a number > 0".
struct NumberRange {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool low_open = false;
  [[nodiscard]] bool contains(double value) const {
    return (low_open ? value > low : value >= low) && value <= high;
  }
  [[nodiscard]] std::string text() const;
};
inline constexpr NumberRange kAnyNumber{};
inline constexpr NumberRange kPositive{0.0, std::numeric_limits<double>::infinity(), true};
inline constexpr NumberRange kNonNegative{0.0};
inline constexpr NumberRange kUnitInterval{0.0, 1.0};

class Section {
 public:
  // `file` is how messages call the file, `pointer` the JSON pointer of `node` in it ("" = root).
  // Throws UserError when `node` is not an object.
  Section(Json node, std::string file, std::string pointer);

  // True when the key is there and not null. Does not count as reading it.
  [[nodiscard]] bool has(const std::string& key) const;

  // Each of these marks the key as read and throws UserError on a missing key, a wrong type or a
  // value out of range. A null counts as missing.
  double number(const std::string& key, const NumberRange& range = kAnyNumber);
  std::uint64_t integer(const std::string& key, std::uint64_t low = 0,
                        std::uint64_t high = std::numeric_limits<std::int64_t>::max());
  bool boolean(const std::string& key);
  std::string string(const std::string& key);
  // One of `names`; otherwise the error lists them and the nearest.
  std::string choice(const std::string& key, const std::vector<std::string>& names);
  std::vector<double> numbers(const std::string& key, const NumberRange& range = kAnyNumber);
  Section object(const std::string& key);
  // The value as it stands, of any type; its content is the caller's to check.
  const Json& raw(const std::string& key);

  // The same with a default for a missing key.
  double number_or(const std::string& key, double fallback, const NumberRange& range = kAnyNumber);
  std::uint64_t integer_or(const std::string& key, std::uint64_t fallback, std::uint64_t low = 0,
                           std::uint64_t high = std::numeric_limits<std::int64_t>::max());
  bool boolean_or(const std::string& key, bool fallback);
  std::string string_or(const std::string& key, const std::string& fallback);
  std::string choice_or(const std::string& key, const std::string& fallback,
                        const std::vector<std::string>& names);
  std::optional<std::uint64_t> optional_integer(
      const std::string& key, std::uint64_t low = 0,
      std::uint64_t high = std::numeric_limits<std::int64_t>::max());
  std::optional<Section> optional_object(const std::string& key);

  // Throws UserError for the first key, here or in a sub-section handed out, that nobody read; it
  // names the known keys and the nearest.
  void reject_unread_keys() const;
  // Marks every key as read without looking at it (free-form data such as provenance).
  void accept_all_keys();
  // Marks one key as read without looking at it.
  void accept(const std::string& key) { state_->read.insert(key); }
  // Makes a key known to error messages without reading it (a key read only in some cases).
  void know(const std::string& key);

  // "FILE: /pointer/key: message", not thrown.
  [[nodiscard]] UserError error(const std::string& key, const std::string& message) const;
  // "FILE: /pointer: message", not thrown.
  [[nodiscard]] UserError error_here(const std::string& message) const;

  [[nodiscard]] const Json& json() const { return state_->node; }
  [[nodiscard]] const std::string& file() const { return state_->file; }
  [[nodiscard]] const std::string& pointer() const { return state_->pointer; }

 private:
  struct State {
    Json node;
    std::string file;
    std::string pointer;
    std::set<std::string> read;
    std::set<std::string> known;
    std::vector<Section> children;
  };

  const Json& require(const std::string& key);
  [[nodiscard]] UserError wrong(const std::string& key, const std::string& expected,
                                const Json& got) const;

  std::shared_ptr<State> state_;
};

// The name with the smallest edit distance to `name`, a name cut short being one mistake away; ""
// when there are none. Ties: first in order.
std::string nearest_name(const std::string& name, const std::vector<std::string>& names);

// "unknown value "x"; known: a, b; nearest: a"
std::string unknown_name_message(const std::string& name, const std::vector<std::string>& names);

}  // namespace moesim
