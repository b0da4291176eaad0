// Recordings made by other tools, turned into traces (docs/importing_traces.md).
//
// Models what the recordings say about routing: which experts ran, in which order, with which
// weights. Leaves out what they say about a machine: residency, bytes read and timings.
#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trace/trace_writer.h"

namespace moesim {

// What to read, and what the user adds to it. An empty or absent value means "as recorded".
struct ImportRequest {
  std::vector<std::filesystem::path> inputs;
  std::optional<std::size_t> experts;  // routed experts per layer, where the format leaves it open
  std::optional<std::size_t> top_k;    // metadata: experts that the recording ran
  std::string model;                   // metadata
  std::string gate;                    // metadata: one letter, A to G
  // The first so many tokens of every sequence are prompt; for formats that do not record it.
  std::size_t prefill_tokens = 0;
};

struct ImportedTrace {
  TraceData data;
  // What was padded, dropped or assumed: one line each, for the user to read.
  std::vector<std::string> notes;
};

struct Importer {
  std::string name;
  std::string description;  // one line
  std::size_t max_inputs = 1;
  // Throws UserError "FILE:LINE: expected ..., got ...".
  ImportedTrace (*read)(const ImportRequest&) = nullptr;
};

// Every format, by name.
const std::vector<Importer>& importers();

// Reads the inputs with the importer `format`, applies what the request adds and names the inputs
// in the metadata key `provenance`. Throws UserError for an unknown format, a wrong number of
// inputs, a defect of a recording, and an addition that contradicts the recording.
ImportedTrace import_trace(const std::string& format, const ImportRequest& request);

}  // namespace moesim
