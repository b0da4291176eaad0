// `sim compress`: a mixed-precision allocation of the routed experts (PMQ), as weights.allocation
// takes it.
#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "api/compress.h"
#include "command.h"
#include "core/files.h"

namespace moesim::cli {
namespace {

struct CompressArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::string out;
  std::vector<double> exponents;
  bool at_most = false;
  CompressOptions options;
};

// One row per layer, so that a person can read the file.
std::string document_text(const Json& document) {
  std::string text = "{";
  const char* separator = "\n";
  for (const auto& item : document.items()) {
    text += separator + ("  " + Json(item.key()).dump()) + ": ";
    const bool is_table =
        item.value().is_array() && !item.value().empty() && item.value().front().is_array();
    if (is_table) {
      const char* row_separator = "[\n    ";
      for (const Json& row : item.value()) {
        text += row_separator + row.dump();
        row_separator = ",\n    ";
      }
      text += "\n  ]";
    } else {
      text += item.value().dump(-1, ' ', false, Json::error_handler_t::replace);
    }
    separator = ",\n";
  }
  return text + "\n}\n";
}

void run_compress(CompressArguments arguments) {
  if (!arguments.exponents.empty()) {
    if (arguments.exponents.size() != 3) {
      throw user_error("--exponents", fmt::format("expected alpha,beta,gamma, got {} numbers",
                                                  arguments.exponents.size()));
    }
    std::copy(arguments.exponents.begin(), arguments.exponents.end(),
              arguments.options.exponents.begin());
  }
  if (arguments.at_most) arguments.options.row = BudgetRow::kAtMost;
  const ConfigText config = load_config(arguments.config, arguments.overrides);
  const CompressReport report = compress(config, arguments.options);
  const std::string text = document_text(report.document);
  write_file_atomically(arguments.out, [&](std::ostream& out) { out << text; });
  for (const std::string& warning : config.warnings) {
    std::cerr << "sim: warning: " << warning << "\n";
  }
  for (const std::string& line : report.text) std::cout << line << "\n";
}

void add_problem_options(CLI::App& command, CompressOptions& options) {
  command.add_flag("--global", options.global,
                   "one budget for all experts of all layers, instead of one for each layer");
  command.add_option("--bit-set", options.bit_set, "bit-widths to choose from")
      ->delimiter(',')
      ->default_str("1,2,3")
      ->type_name("J1,J2,...");
  command
      .add_option("--min-counts", options.min_counts,
                  "experts that each bit-width gets at least; default: one each, but none of the "
                  "smallest")
      ->delimiter(',')
      ->type_name("N1,N2,...");
  command
      .add_option("--errors", options.errors_path,
                  "measured errors of each expert at each bit-width, a JSON file "
                  "(docs/compression.md); default: a stand-in")
      ->type_name("FILE");
  command
      .add_option("--layer-scales", options.layer_scales,
                  "one factor for each MoE layer, to multiply its errors with")
      ->delimiter(',')
      ->type_name("S1,S2,...");
  command
      .add_option("--overhead", options.size.overhead_bits,
                  "bits per quantised weight for scales and zero points")
      ->capture_default_str()
      ->type_name("BITS");
  command
      .add_option("--rest-bits", options.size.rest_bits,
                  "bits of what is quantised beside the experts, for the reported label and size")
      ->capture_default_str()
      ->type_name("BITS");
}

}  // namespace

void add_compress_command(CLI::App& app) {
  auto arguments = std::make_shared<CompressArguments>();
  CLI::App* command = app.add_subcommand(
      "compress", "allocate bits to experts for a mean of so many bits (PMQ), exactly");
  command->add_option("--config", arguments->config, "the configuration, a JSON file")
      ->required()
      ->type_name("FILE");
  command->add_option("--set", arguments->overrides, "override one key: /trace/max_tokens=1000")
      ->type_name("PTR=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--bits", arguments->options.mean_bits,
                   "mean bits per expert weight, scales left out; the budget is rounded down to "
                   "whole bits")
      ->required()
      ->type_name("B");
  command->add_option("--out", arguments->out, "the allocation, for weights.allocation")
      ->required()
      ->type_name("FILE");
  command
      ->add_option("--exponents", arguments->exponents,
                   "of frequency, weight and error in the cost (default 1,1.5,1)")
      ->delimiter(',')
      ->type_name("A,B,G");
  command->add_flag("--at-most", arguments->at_most,
                    "use at most the budget, instead of exactly it");
  add_problem_options(*command, arguments->options);
  command->callback([arguments] { run_compress(*arguments); });
}

}  // namespace moesim::cli
