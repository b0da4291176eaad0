// The trace that the project ships is what traces/README.md says.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>

#include "config/json_file.h"
#include "core/files.h"
#include "support/testing.h"
#include "trace/trace.h"
#include "trace/trace_summary.h"

namespace moesim::test {
namespace {

std::filesystem::path bundled() {
  return source_dir() / "traces" / "reference-moe-small.safetensors";
}

TEST_SUITE("trace/bundled") {
  TEST_CASE("shape, metadata and sequences") {
    const Trace trace = Trace::open(bundled(), "bundled");
    CHECK(trace.shape().tokens == 2560);
    CHECK(trace.shape().layers == 16);
    CHECK(trace.shape().experts == 64);
    CHECK(trace.has_logits());
    CHECK(trace.has_token_ids());
    CHECK(trace.model() == "reference-moe-small");
    CHECK(trace.gate() == "B");
    CHECK(trace.top_k() == 8);
    CHECK(trace.ranked());
    CHECK(trace.metadata().at("experts") == "64");
    CHECK(contains(trace.provenance(), "held-out text"));
    const TokenCounts counts = count_tokens(trace);
    CHECK(counts.decode == 2560);
    CHECK(counts.prefill == 0);
    CHECK(counts.sequences == 10);
    CHECK(counts.shortest == 256);
    CHECK(counts.longest == 256);
  }

  TEST_CASE("the kinds of text share the sequences") {
    const Trace trace = Trace::open(bundled(), "bundled");
    const Json kinds = parse_json(trace.metadata().at("kinds"), "kinds");
    CHECK(kinds.size() == 5);
    std::size_t next = 0;
    for (const auto& [kind, range] : kinds.items()) {
      CHECK(range[0].get<std::size_t>() == next);
      next = range[1].get<std::size_t>();
    }
    CHECK(next == 10);
  }

  TEST_CASE("every logit is finite and every row tells experts apart") {
    const Trace trace = Trace::open(bundled(), "bundled");
    std::array<float, 64> row{};
    std::size_t flat = 0;
    for (std::size_t token = 0; token < trace.shape().tokens; ++token) {
      for (std::size_t layer = 0; layer < trace.shape().layers; ++layer) {
        trace.read_logits(token, static_cast<LayerId>(layer), row);
        const auto [low, high] = std::minmax_element(row.begin(), row.end());
        flat += std::isfinite(*low) && std::isfinite(*high) && *low < *high ? 0 : 1;
      }
    }
    CHECK(flat == 0);
  }

  TEST_CASE("it is small, and its checksum stands in the README") {
    CHECK(std::filesystem::file_size(bundled()) <= 6'000'000);
    const auto readme = source_dir() / "traces" / "README.md";
    CHECK(contains(read_text_file(readme, "README"), sha256_of_file(bundled())));
  }
}

}  // namespace
}  // namespace moesim::test
