// The two kinds of error. UserError: anything the user can mend (exit 2). InvariantError: a defect
// of the program itself (exit 70). The library only throws; the program prints and exits.
#pragma once

#include <stdexcept>
#include <string>

namespace moesim {

// One line: file, place, expected, got.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class InvariantError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

// "PLACE: MESSAGE" with control characters made visible, so that the error stays one line.
inline UserError user_error(const std::string& place, const std::string& message) {
  std::string line = place + ": " + message;
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  return UserError(line);
}

}  // namespace moesim
