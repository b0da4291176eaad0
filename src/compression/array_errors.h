// Messages about places inside nested arrays of a section.
#pragma once

#include <string>

#include "config/section.h"

namespace moesim {

// "FILE: /pointer/path: message"; `path` may lead through arrays: "bits/3/17".
inline UserError error_at(const Section& section, const std::string& path,
                          const std::string& message) {
  return user_error(section.file() + ": " + section.pointer() + "/" + path, message);
}

// A value as messages quote it.
inline std::string shortened(const Json& value) {
  constexpr std::size_t kLongest = 60;
  const std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  return text.size() > kLongest ? text.substr(0, kLongest) + "..." : text;
}

}  // namespace moesim
