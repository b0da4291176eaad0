#include "model/token_graph.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/graph/topological_sort.hpp>
#include <boost/property_map/property_map.hpp>
#include <iterator>
#include <ostream>

#include "core/errors.h"

namespace moesim {

const char* to_string(TaskKind kind) {
  switch (kind) {
    case TaskKind::kAttention:
      return "attention";
    case TaskKind::kDenseFfn:
      return "dense_ffn";
    case TaskKind::kRouter:
      return "router";
    case TaskKind::kFetch:
      return "fetch";
    case TaskKind::kFetchDown:
      return "fetch_down";
    case TaskKind::kFetched:
      return "fetched";
    case TaskKind::kAdmit:
      return "admit";
    case TaskKind::kExpert:
      return "expert";
    case TaskKind::kExpertDown:
      return "expert_down";
    case TaskKind::kShared:
      return "shared_expert";
    case TaskKind::kCombine:
      return "combine";
    case TaskKind::kHead:
      return "head";
  }
  throw InvariantError("unknown task kind");
}

namespace {

using Vertex = TaskGraph::vertex_descriptor;

// Adds the tasks of one layer after another; `last_` is the task that everything so far leads to.
class GraphBuilder {
 public:
  GraphBuilder(const MoeModel& model, const TokenGraphOptions& options)
      : model_(model), options_(options) {}

  TaskGraph build() {
    std::size_t moe_layer = 0;
    for (std::size_t hidden = 0; hidden < model_.num_hidden_layers; ++hidden) {
      hidden_ = static_cast<std::uint16_t>(hidden);
      if (model_.is_moe_layer(hidden)) {
        layer_ = static_cast<std::uint16_t>(moe_layer++);
        add_moe_blocks();
      } else {
        append(TaskKind::kAttention);
        if (model_.dense_ffn_params() > 0) append(TaskKind::kDenseFfn);
      }
    }
    append(TaskKind::kHead);
    return graph_;
  }

 private:
  Vertex add(TaskKind kind, std::size_t slot = 0) {
    return boost::add_vertex(
        Task{kind, execution_, hidden_, layer_, static_cast<std::uint16_t>(slot)}, graph_);
  }
  Vertex add_after(Vertex before, TaskKind kind, std::size_t slot = 0) {
    const Vertex task = add(kind, slot);
    boost::add_edge(before, task, graph_);
    return task;
  }
  void append(TaskKind kind) {
    const bool first = boost::num_vertices(graph_) == 0;
    last_ = first ? add(kind) : add_after(last_, kind);
  }

  void add_moe_blocks() {
    for (std::uint32_t i = 0; i < options_.executions; ++i) {
      execution_ = static_cast<std::uint8_t>(i);
      append(TaskKind::kAttention);
      add_experts();
    }
    execution_ = 0;
  }

  void add_experts() {
    append(TaskKind::kRouter);
    const Vertex router = last_;
    const Vertex combine = add(TaskKind::kCombine);
    Vertex ready = router;  // what computing may start after
    std::vector<Vertex> fetches;
    for (std::size_t slot = 0; slot < options_.slots; ++slot) {
      fetches.push_back(add_after(router, TaskKind::kFetch, slot));
    }
    if (options_.overlap == Overlap::kNone) {
      ready = add(TaskKind::kFetched);
      for (const Vertex fetch : fetches) boost::add_edge(fetch, ready, graph_);
    }
    if (model_.shared_expert_params() > 0) {
      boost::add_edge(add_after(ready, TaskKind::kShared), combine, graph_);
    }
    for (std::size_t slot = 0; slot < options_.slots; ++slot) {
      const bool waits_for_all = options_.overlap == Overlap::kNone;
      const Vertex admit = add_after(waits_for_all ? ready : fetches[slot], TaskKind::kAdmit, slot);
      Vertex expert = add_after(admit, TaskKind::kExpert, slot);
      if (options_.overlap == Overlap::kProjection) {
        const Vertex down = add_after(expert, TaskKind::kExpertDown, slot);
        boost::add_edge(add_after(router, TaskKind::kFetchDown, slot), down, graph_);
        expert = down;
      }
      boost::add_edge(expert, combine, graph_);
    }
    last_ = combine;
  }

  const MoeModel& model_;
  const TokenGraphOptions& options_;
  TaskGraph graph_;
  Vertex last_ = 0;
  std::uint16_t hidden_ = 0;
  std::uint16_t layer_ = 0;
  std::uint8_t execution_ = 0;
};

// In topological order; throws where there is none.
std::vector<Vertex> topological_order(const TaskGraph& graph) {
  std::vector<Vertex> order;
  order.reserve(boost::num_vertices(graph));
  std::vector<boost::default_color_type> colors(boost::num_vertices(graph));
  try {
    // Colours of our own: the analyzer takes the shared array of the default for a use after free.
    boost::topological_sort(graph, std::back_inserter(order),
                            boost::color_map(boost::make_iterator_property_map(
                                colors.begin(), boost::get(boost::vertex_index, graph))));
  } catch (const boost::not_a_dag&) {
    throw InvariantError("the task graph of a token has a cycle");
  }
  std::reverse(order.begin(), order.end());
  return order;
}

std::string label(const Task& task) {
  const std::string again = task.execution > 0 ? "\\nagain" : "";
  switch (task.kind) {
    case TaskKind::kAttention:
    case TaskKind::kDenseFfn:
    case TaskKind::kRouter:
    case TaskKind::kFetched:
    case TaskKind::kShared:
    case TaskKind::kCombine:
      return fmt::format("{}\\nlayer {}{}", to_string(task.kind), task.hidden_layer, again);
    case TaskKind::kHead:
      return to_string(task.kind);
    default:
      return fmt::format("{}\\nlayer {} slot {}{}", to_string(task.kind), task.hidden_layer,
                         task.slot, again);
  }
}

const char* colour(TaskKind kind) {
  switch (kind) {
    case TaskKind::kFetch:
    case TaskKind::kFetchDown:
      return "lightsalmon";
    case TaskKind::kAdmit:
      return "khaki";
    case TaskKind::kFetched:
    case TaskKind::kCombine:
      return "white";
    default:
      return "lightblue";
  }
}

}  // namespace

TaskGraph build_token_graph(const MoeModel& model, const TokenGraphOptions& options) {
  if (options.slots == 0) throw InvariantError("a token graph needs at least one expert slot");
  TaskGraph graph = GraphBuilder(model, options).build();
  topological_order(graph);
  return graph;
}

void write_graphviz(const TaskGraph& graph, std::ostream& out) {
  out << "digraph token {\n  rankdir=LR;\n  node [shape=box, style=filled, fontname=\"sans\"];\n";
  for (Vertex v = 0; v < boost::num_vertices(graph); ++v) {
    out << fmt::format("  t{} [label=\"{}\", fillcolor={}];\n", v, label(graph[v]),
                       colour(graph[v].kind));
  }
  for (const auto edge : boost::make_iterator_range(boost::edges(graph))) {
    out << fmt::format("  t{} -> t{};\n", boost::source(edge, graph), boost::target(edge, graph));
  }
  out << "}\n";
}

CompiledGraph::CompiledGraph(const TaskGraph& graph) {
  const std::vector<Vertex> order = topological_order(graph);
  std::vector<std::uint32_t> id_of(order.size());
  for (std::uint32_t id = 0; id < order.size(); ++id) id_of[order[id]] = id;
  offsets_.push_back(0);
  for (const Vertex vertex : order) {
    tasks_.push_back(graph[vertex]);
    counts_.push_back(static_cast<std::uint16_t>(boost::in_degree(vertex, graph)));
    std::vector<Vertex> targets;
    for (const auto edge : boost::make_iterator_range(boost::out_edges(vertex, graph))) {
      targets.push_back(boost::target(edge, graph));
    }
    // In the order in which the builder added them, slot by slot: it decides which runs first.
    std::sort(targets.begin(), targets.end());
    for (const Vertex target : targets) successors_.push_back(id_of[target]);
    offsets_.push_back(static_cast<std::uint32_t>(successors_.size()));
  }
}

}  // namespace moesim
