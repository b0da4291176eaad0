// `sim trace import`: a recording made by another tool becomes a trace.
#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "command.h"
#include "core/errors.h"
#include "trace/importers/importer.h"
#include "trace/trace_writer.h"

namespace moesim::cli {
namespace {

struct ImportOptions {
  std::string format;
  std::string out;
  ImportRequest request;
};

void refuse_overwriting(const ImportOptions& options) {
  for (const auto& input : options.request.inputs) {
    std::error_code ignored;
    if (std::filesystem::equivalent(input, options.out, ignored)) {
      throw user_error("--out", "expected a file other than the recording, got " + options.out);
    }
  }
}

void run_import(const ImportOptions& options) {
  refuse_overwriting(options);
  const ImportedTrace imported = import_trace(options.format, options.request);
  const TraceData& data = imported.data;
  write_trace(data, options.out);
  for (const std::string& note : imported.notes) fmt::print(stderr, "{}\n", note);
  const auto k = data.metadata.find("top_k");
  fmt::print(stderr, "wrote {}: {} tokens x {} layers x {} experts, k = {}\n", options.out,
             data.shape.tokens, data.shape.layers, data.shape.experts,
             k == data.metadata.end() ? "unknown" : k->second);
}

std::string formats_text() {
  std::string text = "Formats:";
  for (const Importer& importer : importers()) {
    text += fmt::format("\n  {:<16} {}", importer.name, importer.description);
  }
  return text;
}

}  // namespace

void add_trace_import_command(CLI::App& trace) {
  // Checks the text as a signed number: CLI11 would let -1 become the largest unsigned one.
  constexpr int kMost = TraceData::kAbsentId;
  const auto options = std::make_shared<ImportOptions>();
  ImportRequest& request = options->request;
  CLI::App* command =
      trace.add_subcommand("import", "Turn a recording of another tool into a trace");
  command->footer(formats_text());
  command->add_option("--format", options->format, "What the inputs are (see below)")->required();
  command->add_option("inputs", request.inputs, "The recording")->required();
  command->add_option("--out", options->out, "The trace to write, a .safetensors file")->required();
  command->add_option("--experts", request.experts, "Routed experts per layer, where not recorded")
      ->check(CLI::Range(1, kMost));
  command->add_option("--top-k", request.top_k, "Metadata: experts that the recording ran")
      ->check(CLI::Range(1, kMost));
  command->add_option("--model", request.model, "Metadata: name of the model");
  command->add_option("--gate", request.gate, "Metadata: gate function, A to G");
  command
      ->add_option("--prefill", request.prefill_tokens,
                   "The first so many tokens of each sequence are prompt, where not recorded")
      ->check(CLI::Range(0, std::numeric_limits<std::int32_t>::max()));
  command->callback([options] { run_import(*options); });
}

}  // namespace moesim::cli
