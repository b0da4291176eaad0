#include "compression/error_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "compression/array_errors.h"

namespace moesim {
namespace {

constexpr const char* kSchema = "moesim.errors/1";

double stand_in(std::uint32_t bits) {
  switch (bits) {
    case 1:
      return 2.92;
    case 2:
      return 2.48;
    case 3:
      return 1.0;
    default:
      throw user_error("--bit-set",
                       fmt::format("expected bit-widths out of 1, 2, 3, the ones that the stand-in "
                                   "for measured errors knows, got {}: give --errors FILE",
                                   bits));
  }
}

// Walks through the nested arrays of "errors" and checks each on the way.
class ErrorReader {
 public:
  ErrorReader(Section& section, const RoutingShape& shape,
              const std::vector<std::uint32_t>& bit_set)
      : section_(section), shape_(shape) {
    choose_columns(bit_set);
  }

  std::vector<double> read() {
    const Json& errors = section_.raw("errors");
    const bool per_layer = errors.is_array() && !errors.empty() && errors.front().is_array() &&
                           !errors.front().empty() && errors.front().front().is_array();
    std::vector<double> values;
    values.reserve(shape_.layers * shape_.experts * columns_.size());
    if (per_layer) require(errors, shape_.layers, "layers", "");
    for (std::size_t layer = 0; layer < shape_.layers; ++layer) {
      if (per_layer) {
        read_layer(errors[layer], fmt::format("/{}", layer), values);
      } else {
        read_layer(errors, "", values);
      }
    }
    return values;
  }

 private:
  void choose_columns(const std::vector<std::uint32_t>& bit_set) {
    const std::vector<double> known = section_.numbers("bits", {1, 32});
    columns_.reserve(bit_set.size());
    for (const std::uint32_t bits : bit_set) {
      const auto found = std::find(known.begin(), known.end(), static_cast<double>(bits));
      if (found == known.end()) {
        throw section_.error("bits", fmt::format("expected all of the bit set {}, got {}",
                                                 fmt::join(bit_set, ", "), fmt::join(known, ", ")));
      }
      columns_.push_back(static_cast<std::size_t>(found - known.begin()));
    }
    width_ = known.size();
  }

  void require(const Json& array, std::size_t count, const char* what,
               const std::string& place) const {
    if (array.is_array() && array.size() == count) return;
    const std::string got = array.is_array() ? std::to_string(array.size()) : shortened(array);
    throw error_at(section_, "errors" + place,
                   fmt::format("expected {} {}, got {}", count, what, got));
  }

  void read_layer(const Json& layer, const std::string& place, std::vector<double>& values) const {
    require(layer, shape_.experts, "experts", place);
    for (std::size_t expert = 0; expert < shape_.experts; ++expert) {
      const std::string here = fmt::format("{}/{}", place, expert);
      const Json& row = layer[expert];
      require(row, width_, "numbers, one for each of bits", here);
      for (const std::size_t column : columns_) {
        const Json& value = row[column];
        if (!value.is_number() || !std::isfinite(value.get<double>()) || value.get<double>() < 0) {
          throw error_at(section_, fmt::format("errors{}/{}", here, column),
                         "expected a number >= 0, got " + shortened(value));
        }
        values.push_back(value.get<double>());
      }
    }
  }

  Section& section_;
  RoutingShape shape_;
  std::vector<std::size_t> columns_;  // [bit_set], place of each width in the file's rows
  std::size_t width_ = 0;             // numbers of a row
};

}  // namespace

ErrorTable stand_in_errors(const RoutingShape& shape, const std::vector<std::uint32_t>& bit_set) {
  std::vector<double> row;
  row.reserve(bit_set.size());
  for (const std::uint32_t bits : bit_set) row.push_back(stand_in(bits));
  ErrorTable table;
  table.source =
      "stand-in: eps(1) = 2.92, eps(2) = 2.48, eps(3) = 1 for every expert, the median ratios of "
      "the table that MC-MoE ships for Mixtral-8x7B";
  table.values.reserve(shape.layers * shape.experts * row.size());
  for (std::size_t item = 0; item < shape.layers * shape.experts; ++item) {
    table.values.insert(table.values.end(), row.begin(), row.end());
  }
  return table;
}

ErrorTable read_errors(Section section, const RoutingShape& shape,
                       const std::vector<std::uint32_t>& bit_set) {
  section.choice("schema", {kSchema});
  ErrorTable table;
  table.source = section.string_or("source", section.file());
  table.values = ErrorReader(section, shape, bit_set).read();
  section.reject_unread_keys();
  return table;
}

}  // namespace moesim
