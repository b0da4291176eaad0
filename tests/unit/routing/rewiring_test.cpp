// Rewiring: recorded deltas from files, per segment and layer.
#include "core/files.h"
#include "support/routing.h"
#include "support/testing.h"
#include "support/traces.h"
#include "trace/safetensors_writer.h"

namespace moesim::test {
namespace {

using Ids = std::vector<std::size_t>;

const std::vector<float> kLogits{2, 1, 0};

// Two layers; two sequences, of a prefill token and three decoded ones, and of one decoded token:
// with m = 2 the segments 0 0 1 and 2.
Trace two_sequences() {
  TraceData data;
  data.shape = {5, 2, 3};
  data.logits_dtype = "F32";
  for (int cell = 0; cell < 10; ++cell) {
    data.logits.insert(data.logits.end(), kLogits.begin(), kLogits.end());
  }
  data.sequence = {0, 0, 0, 0, 4};
  data.phase = {0, 1, 1, 1, 1};
  data.metadata = {{"top_k", "1"}, {"gate", "A"}};
  return trace_of(data);
}

class Files {
 public:
  Files() : trace(two_sequences()) {
    context = routing_context(gate_of('A'), 3, 1, 2);
    context.shape = trace.shape();
    context.trace = &trace;
    context.base_dir = folder.path();
  }
  void write(const std::string& name, const std::string& text) const {
    write_file_atomically(folder.path() / name, [&](std::ostream& out) { out << text; });
  }
  void write(const std::string& name, std::vector<TensorToWrite> tensors) const {
    const std::vector<std::byte> image = safetensors_image(std::move(tensors), {});
    write_file_atomically(folder.path() / name, [&](std::ostream& out) {
      out.write(reinterpret_cast<const char*>(image.data()), std::ssize(image));
    });
  }
  [[nodiscard]] std::unique_ptr<RoutingPolicy> policy(const std::string& name) const {
    return routing_policy({{"policy", "rewiring"}, {"delta", name}, {"m", 2}}, context);
  }
  [[nodiscard]] std::string message(const std::string& name) const {
    return user_error_of([&] { static_cast<void>(policy(name)); });
  }

  TemporaryFolder folder;
  Trace trace;
  RoutingContext context;
};

// The expert of each decoded token at a layer.
Ids experts_of(const Files& files, RoutingPolicy& policy, std::size_t layer) {
  Ids experts;
  experts.reserve(4);
  for (std::uint32_t token = 1; token < 5; ++token) {
    Gate gate(files.context.gate, 3, 1);
    gate.set_logits(kLogits, {});
    const auto id = LayerId(layer);
    experts.push_back(ids_of(route(policy, gate, states_of(3, {}), id, token)).front());
  }
  return experts;
}

}  // namespace

TEST_SUITE("routing/rewiring") {
  TEST_CASE("each segment has its delta, a layer without one is the model's own") {
    const Files files;
    files.write("d.json",
                R"({"delta": [[[0, 1.5, 0], null], [[0, 0, 3], null], [[0, 0.5, 0], null]],)"
                R"( "description": "made up"})");
    const auto policy = files.policy("d.json");
    CHECK(experts_of(files, *policy, 0) == Ids{1, 1, 2, 0});
    CHECK(experts_of(files, *policy, 1) == Ids{0, 0, 0, 0});
  }

  TEST_CASE("a safetensors file may name the layers that it has") {
    const Files files;
    const std::vector<float> delta{0, 1.5F, 0, 0, 0, 3, 0, 0.5F, 0};
    files.write("d.safetensors", {tensor_of<float>("delta", DType::kF32, {3, 1, 3}, delta),
                                  tensor_of<std::int32_t>("layers", DType::kI32, {1}, {1})});
    const auto policy = files.policy("d.safetensors");
    CHECK(experts_of(files, *policy, 0) == Ids{0, 0, 0, 0});
    CHECK(experts_of(files, *policy, 1) == Ids{1, 1, 2, 0});
  }

  TEST_CASE("the weights follow the altered logits") {
    Files files;
    files.write("d.json", "{\"delta\": [[[0, 1.5, 0], null], [null, null], [null, null]]}");
    files.context.gate = gate_of('B');
    const auto policy = files.policy("d.json");
    Gate gate(files.context.gate, 3, 1);
    gate.set_logits(kLogits, {});
    const Selection chosen = route(*policy, gate, states_of(3, {}), LayerId{0}, 1);
    CHECK(ids_of(chosen) == Ids{1});
    CHECK(near(chosen.weights[0], 1 / (1 + std::exp(-0.5) + std::exp(-2.5)), 1e-12));
    CHECK(policy->weight_rule() == WeightRule::kAlteredLogits);
    CHECK(policy->altered_logits()[1] == 2.5F);
    const RouterVisit visit{1, 0, LayerId{0}, gate};
    const auto states = states_of(3, {});
    const auto divergence =
        policy->bias_divergence(visit, ResidencyView(LayerId{0}, states, nullptr));
    // sum p (z - z') = -1.5 p_1, and the difference of the logarithms of the sums.
    const double before = std::exp(2) + std::exp(1) + 1;
    const double after = std::exp(2) + std::exp(2.5) + 1;
    CHECK(near(*divergence, -1.5 * std::exp(1) / before + std::log(after / before), 1e-12));
  }

  TEST_CASE("without a file it is the model's own routing") {
    const RoutingContext context = routing_context(gate_of('A'), 3, 1);
    const auto policy = routing_policy({{"policy", "rewiring"}}, context);
    CHECK(!policy->needs_logits());
    CHECK(policy->weight_rule() == WeightRule::kGate);
    CHECK(policy->altered_logits().empty());
    CHECK(ids_of(route(*policy, context, kLogits, {})) == Ids{0});
  }

  TEST_CASE("a file that does not fit is refused, naming it and the place") {
    const Files files;
    files.write("short.json", "{\"delta\": [[null, null]]}");
    CHECK(
        files.message("short.json") ==
        "run.json: /routing/delta: short.json: expected 3 segments of 2 decoded tokens, which the "
        "trace t has, got 1");
    files.write("layers.json", "{\"delta\": [[null]]}");
    CHECK(files.message("layers.json") ==
          "layers.json: /delta/0: expected an array of 2 elements, one per MoE layer, got an array "
          "of 1 elements");
    files.write("experts.json", "{\"delta\": [[[0, 0], null]]}");
    CHECK(files.message("experts.json") ==
          "experts.json: /delta/0/0: expected an array of 3 elements, one per expert, got an array "
          "of 2 elements");
    files.write("text.json", "{\"delta\": [[[0, \"a\", 0], null]]}");
    CHECK(files.message("text.json") == "text.json: /delta/0/0/1: expected a number, got \"a\"");
    files.write("large.json", "{\"delta\": [[[0, 1e300, 0], null]]}");
    CHECK(files.message("large.json") ==
          "large.json: /delta/0/0/1: expected a number in the range of F32, got 1e+300");
    files.write("keys.json", "{\"delta\": [], \"delte\": 1}");
    CHECK(contains(files.message("keys.json"), "keys.json: /delte: unknown key"));
    files.write("empty.json", "{}");
    CHECK(files.message("empty.json") == "empty.json: /delta: missing key");
    CHECK(user_error_of([] {
            routing_policy({{"policy", "rewiring"}, {"delta", "d.json"}},
                           routing_context(gate_of('A'), 3, 1));
          }) ==
          "run.json: /routing/delta: expected null, for there is no trace whose segments it is "
          "for");
  }

  TEST_CASE("a safetensors file that does not fit is refused, naming its tensor") {
    const Files files;
    const std::vector<float> values(9);
    files.write("a.safetensors", {tensor_of<float>("d", DType::kF32, {9}, values)});
    CHECK(files.message("a.safetensors") == "a.safetensors: tensor \"delta\": missing");
    files.write("b.safetensors", {tensor_of<float>("delta", DType::kF32, {9}, values)});
    CHECK(
        files.message("b.safetensors") ==
        "b.safetensors: tensor \"delta\": expected F16, BF16 or F32 [segments, layers, 3], got F32 "
        "[9]");
    files.write("c.safetensors", {tensor_of<float>("delta", DType::kF32, {3, 1, 3}, values)});
    CHECK(files.message("c.safetensors") ==
          "c.safetensors: tensor \"delta\": expected 2 MoE layers as in the trace, or a tensor "
          "layers that says which, got 1");
    files.write("e.safetensors", {tensor_of<float>("delta", DType::kF32, {3, 1, 3}, values),
                                  tensor_of<std::int32_t>("layers", DType::kI32, {1}, {2})});
    CHECK(files.message("e.safetensors") ==
          "e.safetensors: tensor \"layers\": expected MoE layers in [0, 1] that differ, got 2");
    files.write("f.safetensors", {tensor_of<float>("delta", DType::kF32, {3, 1, 3}, values),
                                  tensor_of<std::int32_t>("layers", DType::kI32, {2}, {0, 1})});
    CHECK(files.message("f.safetensors") ==
          "f.safetensors: tensor \"layers\": expected I32 [1], got I32 [2]");
    std::vector<float> infinite(9);
    infinite[4] = std::numeric_limits<float>::infinity();
    files.write("g.safetensors", {tensor_of<float>("delta", DType::kF32, {3, 1, 3}, infinite)});
    CHECK(files.message("g.safetensors") ==
          "g.safetensors: tensor \"delta\": expected finite numbers, got infinity at element 4");
  }
}

}  // namespace moesim::test
