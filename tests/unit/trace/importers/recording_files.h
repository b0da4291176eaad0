// Recordings written by hand, for the importer tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support/testing.h"
#include "trace/importers/importer.h"

namespace moesim::test {

// Files in a folder that goes away with the object.
class RecordingFiles {
 public:
  std::filesystem::path add(const std::string& name, const std::string& content) {
    const auto path = folder_.path() / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }

 private:
  TemporaryFolder folder_;
};

// Imports one file of this content, with `request` for what the user adds.
inline ImportedTrace import_text(const std::string& format, const std::string& content,
                                 ImportRequest request = {}) {
  RecordingFiles files;
  request.inputs = {files.add("in", content)};
  return import_trace(format, request);
}

// The error of importing this content, from the file's name on: "in:3: expected ...".
inline std::string import_error(const std::string& format, const std::string& content,
                                const ImportRequest& request = {}) {
  const std::string message = user_error_of([&] { import_text(format, content, request); });
  const auto at = message.find("/in:");
  return at == std::string::npos ? message : message.substr(at + 1);
}

inline ImportRequest request_for(const std::filesystem::path& input) {
  ImportRequest request;
  request.inputs = {input};
  return request;
}

inline bool has_note(const ImportedTrace& imported, const std::string& part) {
  for (const std::string& note : imported.notes) {
    if (contains(note, part)) return true;
  }
  return false;
}

// `text` with the first `from` replaced; fails the test when there is none.
inline std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  return text.replace(at, from.size(), to);
}

// Counts the cells whose weights do not fall with the slot or do not sum to 1 within `tolerance`.
inline std::size_t wrong_weights(const TraceData& data, double tolerance) {
  std::size_t wrong = 0;
  for (std::size_t cell = 0; cell < data.ids.size(); cell += data.k) {
    if (data.ids[cell] == TraceData::kAbsentId) continue;
    double sum = 0;
    bool falls = true;
    for (std::size_t slot = 0; slot < data.k; ++slot) {
      sum += data.weights[cell + slot];
      falls = falls && (slot == 0 || data.weights[cell + slot] <= data.weights[cell + slot - 1]);
    }
    wrong += falls && sum >= 1.0 - tolerance && sum <= 1.0 + tolerance ? 0 : 1;
  }
  return wrong;
}

}  // namespace moesim::test
