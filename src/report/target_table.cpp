#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ostream>

#include "report/target_report.h"

namespace moesim {
namespace {

struct Column {
  const char* metric;
  const char* title;
  int decimals;
};

// Times in ms per token.
const std::vector<Column>& columns() {
  static const std::vector<Column> kColumns = {
      {"tok_s", "tok/s", 2},        {"wall_ms.mean", "mean", 1}, {"wall_ms.p50", "p50", 1},
      {"wall_ms.p90", "p90", 1},    {"wall_ms.p99", "p99", 1},   {"io_ms", "io", 1},
      {"compute_ms", "compute", 1}, {"stall_ms", "stall", 1},    {"mgmt_ms", "mgmt", 1},
      {"mib_per_token", "MiB", 1},  {"hit_pct", "hit %", 1}};
  return kColumns;
}

std::string number(const std::optional<double>& value, int decimals) {
  return value ? fmt::format("{:.{}f}", *value, decimals) : "-";
}

bool is_points(const Column& column) { return std::string(column.metric).ends_with("hit_pct"); }

// Percent; points for hit rates.
std::string error_text(const TargetResult& result, const Column& column) {
  const auto error = metric_of(result.error, column.metric);
  if (!error) return "";
  return is_points(column) ? fmt::format("{:+.1f}", *error) : fmt::format("{:+.1f}", 100 * *error);
}

std::string band_text(const TargetResult& result, const std::string& metric) {
  const Json* node = &result.band;
  for (std::size_t begin = 0;;) {
    const std::size_t dot = metric.find('.', begin);
    const std::string key = metric.substr(begin, dot - begin);
    if (!node->is_object() || !node->contains(key)) return "";
    node = &node->at(key);
    if (dot == std::string::npos) break;
    begin = dot + 1;
  }
  const int decimals = metric == "tok_s" ? 2 : 0;
  return fmt::format("{:.{}f} to {:.{}f}", node->at(0).get<double>(), decimals,
                     node->at(1).get<double>(), decimals);
}

std::string marks(const TargetResult& result) {
  std::string text = result.row.state;
  if (result.fitted) text += ", fitted";
  if (!result.standin.empty()) text += ", " + result.standin;
  return text;
}

std::string percent(const std::optional<double>& share) {
  return share ? fmt::format("{:.1f} %", 100 * *share) : "-";
}

std::string sign_text(const ContrastResult& contrast) {
  if (!contrast.sign_right) return "not simulated";
  return *contrast.sign_right ? "right" : "WRONG";
}

std::string signed_percent(const std::optional<double>& value) {
  return value ? fmt::format("{:+.1f} %", *value) : "-";
}

void write_row(const TargetResult& result, std::ostream& out) {
  out << fmt::format("{} ({})\n", result.row.id, marks(result));
  if (!result.simulated.is_object()) {
    out << fmt::format("  not simulated: {}\n", result.reason);
    return;
  }
  for (const std::string& note : result.notes) out << fmt::format("  note: {}\n", note);
  std::string measured = fmt::format("  {:<10}", "measured");
  std::string simulated = fmt::format("  {:<10}", "simulated");
  std::string errors = fmt::format("  {:<10}", "error, %");
  for (const Column& column : columns()) {
    measured += fmt::format("{:>9}",
                            number(metric_of(result.row.measured, column.metric), column.decimals));
    simulated +=
        fmt::format("{:>9}", number(metric_of(result.simulated, column.metric), column.decimals));
    errors += fmt::format("{:>9}", error_text(result, column));
  }
  out << measured << '\n' << simulated << '\n' << errors << '\n';
  if (result.band.is_object()) {
    out << fmt::format("  band      tok/s {}, mean {} ms, io {} ms, compute {} ms\n",
                       band_text(result, "tok_s"), band_text(result, "wall_ms.mean"),
                       band_text(result, "io_ms"), band_text(result, "compute_ms"));
  }
  if (result.per_token) {
    out << fmt::format(
        "  token by token ({} tokens): median absolute error {:.1f} %, mean {:.1f} %, correlation "
        "{:.3f}\n",
        result.per_token->tokens, 100 * result.per_token->median_abs, 100 * result.per_token->mape,
        result.per_token->correlation);
  } else if (!result.reason.empty()) {
    out << fmt::format("  not compared token by token: {}\n", result.reason);
  }
}

void write_score(const GroupScore& score, std::ostream& out) {
  out << fmt::format("  {:<18} {:>4} {:>10} {:>10} {:>10} {:>12} {:>10}\n", score.name, score.rows,
                     percent(score.median_abs_wall), percent(score.largest_abs_wall),
                     percent(score.median_abs_io), percent(score.median_abs_io_per_mib),
                     percent(score.median_abs_compute));
}

std::string footer(const TargetSummary& summary) {
  std::string text = fmt::format(
      "{} of {} scored contrasts have the right sign; {} rows were fitted to and are not counted; "
      "{} "
      "were not simulated",
      summary.right_signs, summary.scored_contrasts, summary.fitted, summary.not_simulated);
  if (summary.largest_hit_difference) {
    text +=
        fmt::format("; hit rates of rows with their own routing differ by at most {:.2f} points",
                    *summary.largest_hit_difference);
  }
  return text;
}

template <class Write>
void for_each_score(const TargetSummary& summary, Write write) {
  write(summary.all);
  for (const GroupScore& score : summary.by_state) write(score);
  for (const GroupScore& score : summary.by_group) write(score);
}

std::string cell(const TargetResult& result, const Column& column) {
  const auto measured = metric_of(result.row.measured, column.metric);
  const auto simulated = metric_of(result.simulated, column.metric);
  if (!measured && !simulated) return "-";
  const std::string error = error_text(result, column);
  const std::string unit = is_points(column) ? "" : " %";
  return fmt::format("{} / {}{}", number(measured, column.decimals),
                     number(simulated, column.decimals),
                     error.empty() ? "" : " (" + error + unit + ")");
}

void write_markdown_rows(const TargetValidation& validation, std::ostream& out) {
  out << "| row | state |";
  for (const Column& column : columns()) out << fmt::format(" {} |", column.title);
  out << "\n| --- | --- |";
  for (std::size_t i = 0; i < columns().size(); ++i) out << " --- |";
  out << '\n';
  for (const TargetResult& result : validation.rows) {
    out << fmt::format("| {}{} | {} |", result.row.id, result.fitted ? " (fitted)" : "",
                       result.row.state);
    for (const Column& column : columns()) out << fmt::format(" {} |", cell(result, column));
    out << '\n';
  }
}

void write_markdown_bands(const TargetValidation& validation, std::ostream& out) {
  out << "| row | tok/s | mean, ms | io, ms | compute, ms | routing |\n"
         "| --- | --- | --- | --- | --- | --- |\n";
  for (const TargetResult& result : validation.rows) {
    std::string routing = !result.simulated.is_object()    ? "not simulated: " + result.reason
                          : !result.standin.empty()        ? result.standin
                          : result.row.route_trace.empty() ? "every expert is read"
                                                           : "its own";
    for (const std::string& note : result.notes) routing += "; " + note;
    out << fmt::format("| {} | {} | {} | {} | {} | {} |\n", result.row.id,
                       band_text(result, "tok_s"), band_text(result, "wall_ms.mean"),
                       band_text(result, "io_ms"), band_text(result, "compute_ms"), routing);
  }
}

// Rows with their own routing whose times are known token by token.
void write_markdown_tokens(const TargetValidation& validation, std::ostream& out) {
  const auto& rows = validation.rows;
  if (std::none_of(rows.begin(), rows.end(),
                   [](const TargetResult& result) { return result.per_token.has_value(); })) {
    return;
  }
  out << "| row, token by token | tokens | absolute error, median | mean | correlation |\n"
         "| --- | --- | --- | --- | --- |\n";
  for (const TargetResult& result : rows) {
    if (!result.per_token) continue;
    out << fmt::format("| {} | {} | {} | {} | {:.3f} |\n", result.row.id, result.per_token->tokens,
                       percent(result.per_token->median_abs), percent(result.per_token->mape),
                       result.per_token->correlation);
  }
  out << '\n';
}

void write_markdown_contrasts(const TargetValidation& validation, std::ostream& out) {
  out << "| what changes | rows | metric | measured | simulated | sign |\n"
         "| --- | --- | --- | --- | --- | --- |\n";
  for (const ContrastResult& result : validation.contrasts) {
    out << fmt::format("| {} | {} -> {} | {} | {:+.1f} % | {} | {}{} |\n", result.contrast.what,
                       result.contrast.a, result.contrast.b, result.contrast.metric,
                       result.contrast.effect_pct, signed_percent(result.simulated_pct),
                       sign_text(result), result.contrast.score ? "" : " (not scored)");
  }
}

}  // namespace

void write_target_table(const TargetValidation& validation, std::ostream& out) {
  std::string header = fmt::format("{:<12}", "");
  for (const Column& column : columns()) header += fmt::format("{:>9}", column.title);
  out << header << "\n";
  for (const TargetResult& result : validation.rows) write_row(result, out);
  if (!validation.contrasts.empty()) out << "\ncontrasts\n";
  for (const ContrastResult& result : validation.contrasts) {
    out << fmt::format("  {:<26} {:>4} -> {:<4} {:<12} measured {:>8}, simulated {:>8}: {}{}\n",
                       result.contrast.id, result.contrast.a, result.contrast.b,
                       result.contrast.metric, signed_percent(result.contrast.effect_pct),
                       signed_percent(result.simulated_pct), sign_text(result),
                       result.contrast.score ? "" : " (not scored)");
  }
  out << fmt::format("\n{:<20} {:>4} {:>10} {:>10} {:>10} {:>12} {:>10}\n", "absolute error",
                     "rows", "mean time", "largest", "io", "io per MiB", "compute");
  for_each_score(validation.summary, [&](const GroupScore& score) { write_score(score, out); });
  out << '\n' << footer(validation.summary) << '\n';
}

void write_target_markdown(const TargetValidation& validation, std::ostream& out) {
  write_markdown_rows(validation, out);
  out << '\n';
  write_markdown_bands(validation, out);
  out << '\n';
  write_markdown_tokens(validation, out);
  write_markdown_contrasts(validation, out);
  out << "\n| absolute error | rows | mean time, median | largest | io, median | io per MiB, "
         "median "
         "| compute, median |\n| --- | --- | --- | --- | --- | --- | --- |\n";
  for_each_score(validation.summary, [&](const GroupScore& score) {
    out << fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", score.name, score.rows,
                       percent(score.median_abs_wall), percent(score.largest_abs_wall),
                       percent(score.median_abs_io), percent(score.median_abs_io_per_mib),
                       percent(score.median_abs_compute));
  });
  out << '\n' << footer(validation.summary) << ".\n";
}

}  // namespace moesim
