// `sim compare`: two results side by side.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "api/compare.h"
#include "command.h"

namespace moesim::cli {
namespace {

struct CompareArguments {
  CompareOptions options;
  std::vector<std::string> tokens;
  bool json = false;
};

void print_comparison(const CompareArguments& arguments) {
  CompareOptions options = arguments.options;
  if (!arguments.tokens.empty()) options.tokens = {arguments.tokens[0], arguments.tokens[1]};
  const Comparison comparison = compare(options);
  if (!arguments.json) return write_comparison(comparison, std::cout);
  std::cout << comparison_json(comparison).dump(2, ' ', false, Json::error_handler_t::replace)
            << "\n";
}

}  // namespace

void add_compare_command(CLI::App& app) {
  auto arguments = std::make_shared<CompareArguments>();
  CLI::App* compare = app.add_subcommand("compare", "two results side by side, and a verdict");
  compare
      ->add_option("A", arguments->options.a,
                   "a result of sim run --json, or FILE.jsonl:N, line N of a sweep's file")
      ->required();
  compare->add_option("B", arguments->options.b, "what to compare with it")->required();
  compare
      ->add_option("--tokens-csv", arguments->tokens,
                   "what sim run --tokens-csv wrote beside A and B: gives an interval")
      ->type_name("A.csv B.csv")
      ->expected(2);
  compare->add_option("--seed", arguments->options.seed, "of the bootstrap")->capture_default_str();
  compare->add_flag("--json", arguments->json, "print a JSON document (docs/sweeps.md)");
  compare->callback([arguments] { print_comparison(*arguments); });
}

}  // namespace moesim::cli
