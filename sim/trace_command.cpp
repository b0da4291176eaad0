// sim trace inspect and sim trace synth: what a trace holds, and traces out of a seed.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "command.h"
#include "trace/safetensors_file.h"
#include "trace/synthetic.h"
#include "trace/trace.h"
#include "trace/trace_summary.h"
#include "trace/trace_writer.h"

namespace moesim::cli {
namespace {

struct InspectOptions {
  std::string path;
  std::size_t k = 0;
  bool json = false;
};

struct SynthOptions {
  SyntheticOptions trace;
  std::string kind = "drift";
  std::string out;
};

// A share as a percentage, "-" for null.
std::string percent(const Json& share) {
  return share.is_null() ? "-" : fmt::format("{:.1f} %", 100.0 * share.get<double>());
}

std::string number_or_dash(const Json& value) { return value.is_null() ? "-" : value.dump(); }

void print_row(const std::string& name, const std::string& value) {
  fmt::print("{:<12} {}\n", name, value);
}

void print_content(const Json& summary) {
  const Json& shape = summary["shape"];
  const Json& tokens = summary["tokens"];
  const auto& form = summary["form"];
  print_row("trace", summary["path"].get<std::string>());
  std::string forms;
  for (const Json& one : form) {
    const bool full = one == "full";
    forms += (forms.empty() ? "" : " and ") +
             (full ? std::string("full (router logits)")
                   : fmt::format("compact ({} ids per visit)", shape["recorded_k"].dump()));
  }
  print_row("form", forms);
  print_row("shape", fmt::format("{} tokens, {} MoE layers, {} experts", shape["tokens"].dump(),
                                 shape["layers"].dump(), shape["experts"].dump()));
  print_row("tokens", fmt::format("{} prefill, {} decode, in {} sequences of {} to {}",
                                  tokens["prefill"].dump(), tokens["decode"].dump(),
                                  tokens["sequences"].dump(), tokens["shortest_sequence"].dump(),
                                  tokens["longest_sequence"].dump()));
  if (tokens["absent_visits"] != 0) {
    print_row("absent",
              tokens["absent_visits"].dump() + " (token, layer) visits that did not happen");
  }
  fmt::print("\ntensors\n");
  for (const Json& tensor : summary["tensors"]) {
    fmt::print("  {:<20} {:<5} {:<18} {}\n", tensor["name"].get<std::string>(),
               tensor["dtype"].get<std::string>(),
               shape_text(tensor["shape"].get<std::vector<std::size_t>>()),
               tensor["meaning"].get<std::string>());
  }
  fmt::print("\nmetadata\n");
  for (const auto& [key, value] : summary["metadata"].items()) {
    fmt::print("  {:<20} {}\n", key, value.get<std::string>());
  }
}

void print_popularity(const Json& layers) {
  const auto spread = [&layers](const char* key) {
    double low = layers[0][key].get<double>();
    double high = low;
    double sum = 0;
    for (const Json& layer : layers) {
      const auto value = layer[key].get<double>();
      low = std::min(low, value);
      high = std::max(high, value);
      sum += value;
    }
    return std::vector<double>{low, sum / static_cast<double>(layers.size()), high};
  };
  const auto sd = spread("frequency_sd");
  const auto gini = spread("gini");
  fmt::print("\npopularity: how unevenly a layer uses its experts (lowest, mean, highest layer)\n");
  fmt::print("  sd of the activation frequency   {:.2f} %, {:.2f} %, {:.2f} %\n", 100 * sd[0],
             100 * sd[1], 100 * sd[2]);
  fmt::print("  Gini index of the use counts     {:.3f}, {:.3f}, {:.3f}\n", gini[0], gini[1],
             gini[2]);
}

void print_reuse(const Json& reuse) {
  fmt::print(
      "\nreuse distance: tokens since the layer last used the same expert (1 = the token "
      "before)\n");
  fmt::print("  p50 {}, p90 {}, p99 {}, max {}; {} of {} accesses are first uses of a sequence\n",
             number_or_dash(reuse["p50"]), number_or_dash(reuse["p90"]),
             number_or_dash(reuse["p99"]), number_or_dash(reuse["max"]), reuse["first_uses"].dump(),
             reuse["accesses"].dump());
}

void print_locality(const Json& summary) {
  const Json& locality = summary["locality"];
  fmt::print("\nlocality of the {} decode tokens, {} experts per visit, from {}\n",
             summary["tokens"]["decode"].dump(), summary["k"].dump(),
             summary["experts_from"].get<std::string>());
  print_popularity(locality["popularity_by_layer"]);
  fmt::print(
      "\noverlap: share of a token's experts that the token `lag` before used too ({} if random)\n",
      percent(summary["k"].get<double>() / summary["shape"]["experts"].get<double>()));
  for (const Json& row : locality["overlap"]) {
    fmt::print("  lag {:<4} {}\n", row["lag_tokens"].dump(), percent(row["share"]));
  }
  print_reuse(locality["reuse_distance_tokens"]);
  fmt::print(
      "\nhot list: accesses of the second half served by the first half's most used experts\n");
  for (const Json& row : locality["hot_list"]) {
    fmt::print("  {:>4} experts per layer   {}\n", row["capacity_experts"].dump(),
               percent(row["coverage"]));
  }
  fmt::print(
      "\nSRP: best F1 of a choice of experts that stays fixed for m tokens (arXiv 2505.16056)\n");
  for (const Json& row : locality["srp"]) {
    fmt::print("  m = {:<4} {:.4f}   (at {} uses or more; {:.2f} times as many experts)\n",
               row["m"].dump(), row["srp"].get<double>(), row["alpha"].dump(),
               row["rho"].get<double>());
  }
  fmt::print("\nSCH: hit rate of a cache per layer that looks m - 1 tokens ahead (same source)\n");
  for (const Json& row : locality["sch"]) {
    fmt::print("  m = {:<4} {:>4} experts   {} strict, {} with cold accesses as hits\n",
               row["m"].dump(), row["capacity_experts"].dump(), percent(row["hit_rate_strict"]),
               percent(row["hit_rate_cold_counts_as_hit"]));
  }
}

void print_specialisation(const Json& tokens) {
  if (tokens.is_null()) return;
  fmt::print(
      "\ntoken ids: spread of an id's uses over the experts (arXiv 2402.01739); 0 if even\n  {} "
      "ids "
      "occur more than {} times, in {} tokens\n",
      tokens["ids"].dump(), tokens["more_occurrences_than"].dump(), tokens["tokens"].dump());
  if (tokens["ids"] == 0) return;
  const auto means = tokens["mean_sigma_by_layer"].get<std::vector<double>>();
  const auto [low, high] = std::minmax_element(means.begin(), means.end());
  fmt::print("  mean sigma of a layer: {:.4f} to {:.4f}\n", *low, *high);
}

void print_divergence(const Json& divergence) {
  if (divergence.is_null()) return;
  const auto layers = divergence["jensen_shannon_by_layer"].get<std::vector<double>>();
  const auto [low, high] = std::minmax_element(layers.begin(), layers.end());
  fmt::print(
      "\nsequences: Jensen-Shannon divergence of the mean routing weights of {} sequences from the "
      "first's\n  {:.4f} to {:.4f} by layer\n",
      divergence["sequences"].dump(), *low, *high);
}

void inspect(const InspectOptions& options) {
  const Trace trace = Trace::open(options.path, options.path);
  const Json summary = trace_summary(trace, options.k);
  if (options.json) {
    fmt::print("{}\n", summary.dump(2));
    return;
  }
  print_content(summary);
  print_locality(summary);
  print_specialisation(summary["token_specialisation"]);
  print_divergence(summary["sequence_divergence"]);
}

void synthesize(SynthOptions options) {
  options.trace.kind =
      options.kind == "segments" ? SyntheticKind::kSegments : SyntheticKind::kDrift;
  const TraceData data = synthetic_trace(options.trace);
  write_trace(data, options.out);
  fmt::print(stderr, "sim: wrote {}: {} tokens, {} layers, {} experts, {}\n", options.out,
             data.shape.tokens, data.shape.layers, data.shape.experts,
             data.metadata.at("provenance"));
}

// CLI11 would wrap a negative number around where it wants an unsigned one.
std::string negative_number(const std::string& text) {
  return text.starts_with('-') ? "expected a number >= 0, got " + text : "";
}

void add_inspect_command(CLI::App& trace) {
  CLI::App& command =
      *trace.add_subcommand("inspect", "show what a trace holds, and how local its routing is");
  const auto options = std::make_shared<InspectOptions>();
  command.add_option("FILE", options->path, "a trace (docs/trace_format.md)")->required();
  command
      .add_option("--k", options->k,
                  "experts per visit to look at (default: the trace's top_k, else its ids)")
      ->check(CLI::Range(1, 65535));
  command.add_flag("--json", options->json, "print the summary as JSON");
  command.callback([options] { inspect(*options); });
}

void add_synth_command(CLI::App& trace) {
  CLI::App& command = *trace.add_subcommand("synth", "write a synthetic trace of router logits");
  const auto options = std::make_shared<SynthOptions>();
  SyntheticOptions& made = options->trace;
  command.add_option("--out", options->out, "the file to write (.safetensors)")->required();
  command
      .add_option("--kind", options->kind,
                  "drift: popularity + AR(1) state + noise, all normal; segments: offsets that "
                  "stay for a segment + uniform noise")
      ->check(CLI::IsMember({"drift", "segments"}))
      ->capture_default_str();
  const auto add = [&command](const char* name, auto& value, const char* text) {
    command.add_option(name, value, text)->check(negative_number)->capture_default_str();
  };
  add("--seed", made.seed, "the same seed and options give the same bytes");
  add("--tokens", made.tokens, "tokens of all sequences together");
  add("--layers", made.layers, "MoE layers");
  add("--experts", made.experts, "routed experts per layer");
  add("--top-k", made.k, "experts per token and layer, kept as metadata top_k");
  add("--sequences", made.sequences, "sequences that share the tokens equally");
  add("--prefill-tokens", made.prefill_tokens, "prefill tokens at the start of each sequence");
  add("--skew", made.skew, "drift: spread of an expert's lasting popularity, in logits");
  add("--locality", made.locality, "drift: spread of the slowly changing part, in logits");
  add("--persistence", made.persistence,
      "drift: correlation of the slow part from one token to the next, in [0, 1)");
  add("--noise", made.noise, "drift: spread of the part new with every token, in logits");
  add("--burst", made.burst,
      "drift: how much that spread differs from token to token, in [0, 3]; 0 = not");
  add("--segment-tokens", made.segment_tokens, "segments: tokens of a segment");
  command.callback([options] { synthesize(*options); });
}

}  // namespace

void add_trace_command(CLI::App& app) {
  CLI::App& trace = *app.add_subcommand("trace", "inspect, import or generate routing traces");
  trace.require_subcommand(1);
  add_inspect_command(trace);
  add_trace_import_command(trace);
  add_synth_command(trace);
}

}  // namespace moesim::cli
