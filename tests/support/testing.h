// What tests share: where data lies, JSON fixtures, and expecting a message.
#pragma once

#include <doctest/doctest.h>

#include <filesystem>
#include <optional>
#include <string>

#include "config/json_file.h"
#include "core/errors.h"
#include "core/temporary_folder.h"

namespace moesim::test {

// The checkout.
std::filesystem::path source_dir();
// A fixture of tests/golden, parsed.
Json golden(const std::string& name);
// $MOESIM_DATA_DIR/relative, the third-party data that is never copied into the project. Where the
// variable is not set, prints that the running test skips and returns nullopt.
std::optional<std::filesystem::path> third_party(const std::string& relative);
// The message of the UserError that `action` throws; fails the test where it throws none.
template <class Action>
std::string user_error_of(Action&& action) {
  try {
    action();
  } catch (const UserError& error) {
    return error.what();
  }
  FAIL_CHECK("expected a UserError");
  return "";
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace moesim::test
