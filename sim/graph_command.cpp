// `sim graph`: the task graph of one decoded token as Graphviz.
#include <iostream>
#include <memory>

#include "api/run.h"
#include "command.h"
#include "model/token_graph.h"

namespace moesim::cli {

void add_graph_command(CLI::App& app) {
  CLI::App* graph =
      app.add_subcommand("graph", "print the task graph of one decoded token (Graphviz)");
  auto config_path = std::make_shared<std::string>();
  auto overrides = std::make_shared<std::vector<std::string>>();
  graph->add_option("--config", *config_path, "the configuration, a JSON file")
      ->required()
      ->type_name("FILE");
  graph->add_option("--set", *overrides, "override one key: /execution/overlap=expert")
      ->type_name("PTR=VALUE")
      ->allow_extra_args(false);
  graph->callback([config_path, overrides] {
    const auto plan = plan_run(load_config(*config_path, *overrides));
    if (!plan->config().model) {
      throw user_error(*config_path, "expected a model, got none: the graph is that of its layers");
    }
    const TokenGraphOptions options{plan->session().max_visit_experts(),
                                    plan->config().execution.overlap,
                                    plan->session().routing().max_executions()};
    write_graphviz(build_token_graph(*plan->config().model, options), std::cout);
  });
}

}  // namespace moesim::cli
