#include "model/gate_spec.h"

#include <cctype>

namespace moesim {

std::optional<GateCode> parse_gate_code(const std::string& text) {
  if (text.empty() || text[0] < 'A' || text[0] > 'G') return std::nullopt;
  // A suffix such as "+sg" or "(8g;4)" says more about the router; a word is no code.
  if (text.size() > 1 && std::isalnum(static_cast<unsigned char>(text[1])) != 0) {
    return std::nullopt;
  }
  return static_cast<GateCode>(text[0]);
}

}  // namespace moesim
