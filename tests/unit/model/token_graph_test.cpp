#include "model/token_graph.h"

#include <map>
#include <sstream>

#include "support/scenario.h"

namespace moesim::test {

TEST_SUITE("model/token_graph") {
  MoeModel model_with(const Json& changes) {
    Json description = scenario_model();
    description.update(changes);
    return read_model(Section(description, "model.json", ""));
  }

  std::map<TaskKind, std::size_t> kinds(const CompiledGraph& graph) {
    std::map<TaskKind, std::size_t> counts;
    for (std::uint32_t id = 0; id < graph.size(); ++id) ++counts[graph.task(id).kind];
    return counts;
  }

  TEST_CASE("every layer has its tasks, every slot its chain") {
    const MoeModel model = model_with({{"num_hidden_layers", 5},
                                       {"intermediate_size", 512},
                                       {"shared_expert_intermediate_size", 128}});
    auto counts = kinds(CompiledGraph(build_token_graph(model, {6, Overlap::kNone})));
    CHECK(counts[TaskKind::kAttention] == 5);
    CHECK(counts[TaskKind::kDenseFfn] == 1);
    CHECK(counts[TaskKind::kRouter] == 4);
    CHECK(counts[TaskKind::kFetch] == 4 * 6);
    CHECK(counts[TaskKind::kFetched] == 4);
    CHECK(counts[TaskKind::kShared] == 4);
    CHECK(counts[TaskKind::kHead] == 1);
    counts = kinds(CompiledGraph(build_token_graph(model, {6, Overlap::kProjection})));
    CHECK(counts[TaskKind::kFetched] == 0);
    CHECK(counts[TaskKind::kFetchDown] == 4 * 6);
    CHECK(counts[TaskKind::kExpertDown] == 4 * 6);
  }

  TEST_CASE("the compiled graph is in topological order and ends in the head") {
    const CompiledGraph graph(build_token_graph(model_with(Json::object()), {4, Overlap::kExpert}));
    std::vector<std::uint16_t> pending = graph.predecessor_counts();
    CHECK(pending[0] == 0);
    for (std::uint32_t id = 0; id < graph.size(); ++id) {
      REQUIRE(pending[id] == 0);
      for (std::uint32_t s = graph.first_successor(id); s < graph.end_successor(id); ++s) {
        REQUIRE(graph.successors()[s] > id);
        --pending[graph.successors()[s]];
      }
    }
    CHECK(graph.task(static_cast<std::uint32_t>(graph.size() - 1)).kind == TaskKind::kHead);
  }

  TEST_CASE("a graph with a cycle is refused") {
    TaskGraph graph = build_token_graph(model_with(Json::object()), {2, Overlap::kNone});
    boost::add_edge(boost::num_vertices(graph) - 1, 0, graph);
    CHECK_THROWS_AS(CompiledGraph{graph}, InvariantError);
  }

  TEST_CASE("Graphviz names every task and every edge") {
    const TaskGraph graph = build_token_graph(model_with(Json::object()), {2, Overlap::kNone});
    std::ostringstream out;
    write_graphviz(graph, out);
    const std::string text = out.str();
    std::size_t arrows = 0;
    for (std::size_t at = 0; (at = text.find(" -> ", at)) != std::string::npos; ++at) ++arrows;
    CHECK(arrows == boost::num_edges(graph));
    CHECK(contains(text, "attention\\nlayer 3"));
  }
}

}  // namespace moesim::test
