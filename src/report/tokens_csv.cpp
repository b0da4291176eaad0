#include <fmt/format.h>
#include <fmt/ostream.h>

#include <ostream>
#include <string>

#include "report/run_report.h"

namespace moesim {

void write_tokens_csv(const RunResult& result, std::ostream& out) {
  out << "token,sequence,position,wall_ms,compute_ms,stall_ms,admission_ms,predictor_ms,overhead_"
         "ms,"
         "read_bytes,hits,misses,experts\n";
  for (const TokenRow& row : result.rows) {
    fmt::print(out, "{},{},{},{}", row.token, row.sequence, row.position, to_ms(row.wall));
    for (const Duration part : row.parts) fmt::print(out, ",{}", to_ms(part));
    const std::string bytes = result.knows_bytes ? std::to_string(row.read_bytes) : "";
    fmt::print(out, ",{},{},{},{}\n", bytes, row.hits, row.misses, row.experts);
  }
}

}  // namespace moesim
