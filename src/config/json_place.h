// A JSON value and where it stands: arrays and files whose content a policy checks itself.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <utility>

#include "config/section.h"
#include "core/errors.h"

namespace moesim {

class JsonPlace {
 public:
  // `file`: how messages call the file; `pointer`: of `value` in it, "" for all of it. The value
  // must outlive the place.
  JsonPlace(const Json& value, std::string file, std::string pointer)
      : value_(&value), file_(std::move(file)), pointer_(std::move(pointer)) {}
  // A key of a section, marked as read. REQUIRES: section.has(key).
  JsonPlace(Section& section, const std::string& key)
      : JsonPlace(section.raw(key), section.file(), section.pointer() + "/" + key) {}

  [[nodiscard]] const Json& value() const { return *value_; }
  // REQUIRES: an array of more than `i` elements.
  [[nodiscard]] JsonPlace element(std::size_t i) const {
    return {(*value_)[i], file_, fmt::format("{}/{}", pointer_, i)};
  }
  // REQUIRES: an object with this key.
  [[nodiscard]] JsonPlace member(const std::string& key) const {
    return {value_->at(key), file_, pointer_ + "/" + key};
  }

  // "FILE: /pointer: expected EXPECTED, got VALUE", not thrown; arrays and objects are not printed.
  [[nodiscard]] UserError error(const std::string& expected) const {
    const std::string got = value_->is_array()
                                ? fmt::format("an array of {} elements", value_->size())
                            : value_->is_object() ? "an object"
                                                  : value_->dump();
    return user_error(pointer_.empty() ? file_ : file_ + ": " + pointer_,
                      "expected " + expected + ", got " + got);
  }

  // Each of these throws UserError where the value is something else.
  void require_array() const {
    if (!value_->is_array()) throw error("an array");
  }
  void require_array(std::size_t length, const char* of_what) const {
    if (!value_->is_array() || value_->size() != length) {
      throw error(fmt::format("an array of {} elements, one per {}", length, of_what));
    }
  }
  [[nodiscard]] std::uint64_t integer(std::uint64_t low, std::uint64_t high) const {
    const bool below_zero = value_->is_number_integer() && !value_->is_number_unsigned() &&
                            value_->get<std::int64_t>() < 0;
    if (!value_->is_number_integer() || below_zero || value_->get<std::uint64_t>() < low ||
        value_->get<std::uint64_t>() > high) {
      throw error(fmt::format("an integer in [{}, {}]", low, high));
    }
    return value_->get<std::uint64_t>();
  }
  [[nodiscard]] double number() const {
    if (!value_->is_number()) throw error("a number");
    return value_->get<double>();
  }

 private:
  const Json* value_;
  std::string file_;
  std::string pointer_;
};

}  // namespace moesim
