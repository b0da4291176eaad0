#include "core/version.h"
#include "report/target_report.h"

namespace moesim {
namespace {

Json json_of(const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); }

Json text_or_null(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json json_of(const TargetResult& result) {
  Json row = {{"id", result.row.id},
              {"group", result.row.group},
              {"state", result.row.state},
              {"measured", result.row.measured},
              {"simulated", result.simulated},
              {"error", result.error},
              {"band", result.band},
              {"fitted", result.fitted},
              {"standin", text_or_null(result.standin)},
              {"notes", result.notes}};
  if (!result.reason.empty()) row["reason"] = result.reason;
  if (result.per_token) {
    row["per_token"] = {{"tokens", result.per_token->tokens},
                        {"median_abs_error", result.per_token->median_abs},
                        {"mape", result.per_token->mape},
                        {"correlation", result.per_token->correlation}};
  }
  return row;
}

Json json_of(const ContrastResult& result) {
  return {{"id", result.contrast.id},
          {"what", result.contrast.what},
          {"a", result.contrast.a},
          {"b", result.contrast.b},
          {"metric", result.contrast.metric},
          {"measured_pct", result.contrast.effect_pct},
          {"simulated_pct", json_of(result.simulated_pct)},
          {"sign_right", result.sign_right ? Json(*result.sign_right) : Json(nullptr)},
          {"score", result.contrast.score}};
}

Json json_of(const GroupScore& score) {
  return {{"name", score.name},
          {"rows", score.rows},
          {"median_abs_error",
           {{"wall_mean", json_of(score.median_abs_wall)},
            {"io", json_of(score.median_abs_io)},
            {"io_per_mib", json_of(score.median_abs_io_per_mib)},
            {"compute", json_of(score.median_abs_compute)}}},
          {"largest_abs_error", {{"wall_mean", json_of(score.largest_abs_wall)}}}};
}

template <class Items>
Json array_of(const Items& items) {
  Json array = Json::array();
  for (const auto& item : items) array.push_back(json_of(item));
  return array;
}

Json json_of(const TargetSummary& summary) {
  return {{"not_fitted", json_of(summary.all)},
          {"by_state", array_of(summary.by_state)},
          {"by_group", array_of(summary.by_group)},
          {"rows_fitted", summary.fitted},
          {"rows_not_simulated", summary.not_simulated},
          {"contrasts_scored", summary.scored_contrasts},
          {"contrasts_right", summary.right_signs},
          {"largest_hit_difference_points", json_of(summary.largest_hit_difference)}};
}

}  // namespace

Json target_json(const TargetValidation& validation) {
  return {{"schema", "moesim.validation/1"},
          {"program", {{"version", program_version()}, {"commit", program_commit()}}},
          {"targets", validation.targets},
          {"devices", validation.devices},
          {"rows", array_of(validation.rows)},
          {"contrasts", array_of(validation.contrasts)},
          {"summary", json_of(validation.summary)}};
}

}  // namespace moesim
