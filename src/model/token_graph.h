// The task graph of one pass through the model: what must have happened before what.
//
// A pass is one decoded token, or a prefill over several tokens. The graph is a template with as
// many expert slots per MoE layer as the routing policy may select; slots that a visit does not
// use, reads of experts that are resident, and executions of a layer beyond what the routing policy
// plans, take no time. It says nothing about resources:
// which task runs where, and how long, is the engine's.
#pragma once

#include <boost/graph/adjacency_list.hpp>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "core/ids.h"
#include "model/moe_model.h"

namespace moesim {

// kNone: read all misses of a layer, then compute. kExpert: compute what is there while the rest
// is read. kProjection: as kExpert, and an expert starts on gate and up before down has arrived.
enum class Overlap : std::uint8_t { kNone, kExpert, kProjection };

enum class TaskKind : std::uint8_t {
  kAttention,   // attention (or the layer's other mixer) with its norms
  kDenseFfn,    // the feed-forward part of a layer without experts
  kRouter,      // the router's product; afterwards the experts of the visit are known
  kFetch,       // reads of a slot's expert: all of it, or its gate and up with kProjection
  kFetchDown,   // reads of a slot's down matrix, kProjection only
  kFetched,     // kNone only: all reads of the layer have arrived
  kAdmit,       // taking the expert of a slot into the cache
  kExpert,      // the expert's product: all of it, or gate and up with kProjection
  kExpertDown,  // its down matrix, kProjection only
  kShared,      // the shared experts
  kCombine,     // weighted sum into the residual stream
  kHead,        // final norm and output matrix
};

// A readable name, as `sim graph` and timelines print it.
const char* to_string(TaskKind kind);

struct Task {
  TaskKind kind = TaskKind::kAttention;
  std::uint8_t execution = 0;  // of the MoE layer's block: 1 for its repeat, and so on
  std::uint16_t hidden_layer = 0;
  std::uint16_t layer = 0;  // LayerId value; only for tasks of MoE layers
  std::uint16_t slot = 0;   // only for tasks of an expert slot
};

struct TokenGraphOptions {
  std::size_t slots = 1;  // expert slots per MoE layer
  Overlap overlap = Overlap::kNone;
  std::uint32_t executions = 1;  // of the block of each MoE layer, one after the other
};

using TaskGraph = boost::adjacency_list<boost::vecS, boost::vecS, boost::bidirectionalS, Task>;

// REQUIRES: options.slots > 0, 0 < options.executions < 256. Throws InvariantError if the graph had
// a cycle.
TaskGraph build_token_graph(const MoeModel& model, const TokenGraphOptions& options);

// Graphviz.
void write_graphviz(const TaskGraph& graph, std::ostream& out);

// The same graph as arrays, for execution: tasks in a topological order, successors one after the
// other. Throws InvariantError for a graph with a cycle.
class CompiledGraph {
 public:
  explicit CompiledGraph(const TaskGraph& graph);

  [[nodiscard]] std::size_t size() const { return tasks_.size(); }
  [[nodiscard]] const Task& task(std::uint32_t id) const { return tasks_[id]; }
  [[nodiscard]] const std::vector<std::uint32_t>& successors() const { return successors_; }
  [[nodiscard]] std::uint32_t first_successor(std::uint32_t id) const { return offsets_[id]; }
  [[nodiscard]] std::uint32_t end_successor(std::uint32_t id) const { return offsets_[id + 1]; }
  // [tasks]: how many tasks must end before each can start.
  [[nodiscard]] const std::vector<std::uint16_t>& predecessor_counts() const { return counts_; }

 private:
  std::vector<Task> tasks_;
  std::vector<std::uint32_t> offsets_;  // [tasks + 1] into successors_
  std::vector<std::uint32_t> successors_;
  std::vector<std::uint16_t> counts_;  // [tasks]
};

}  // namespace moesim
