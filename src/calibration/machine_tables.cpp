#include "calibration/machine_tables.h"

#include <cmath>

namespace moesim {
namespace {

// A value, its spread and the number of its repetitions, under the name that says its unit.
Json row_of(const char* name, const Summary& summary, double unit) {
  return {{name, significant(summary.median * unit)},
          {"spread", significant(summary.spread)},
          {"repetitions", summary.repetitions}};
}

// With the mean, which the kernel rates are made of.
Json timed_row(const Summary& summary) {
  Json json = row_of("us", summary, 1e6);
  json["mean_us"] = significant(summary.mean * 1e6);
  return json;
}

Json thread_rows(const std::vector<ThreadRow>& rows, const char* name, double unit) {
  Json list = Json::array();
  for (const ThreadRow& row : rows) {
    Json json = {{"threads", row.threads}};
    json.update(row_of(name, row.seconds, unit));
    list.push_back(json);
  }
  return list;
}

Json product_rows(const std::vector<ProductRow>& rows) {
  Json list = Json::array();
  for (const ProductRow& row : rows) {
    Json json = {{"format", device_format(row.format)},
                 {"rows", row.shape.rows},
                 {"columns", row.shape.columns},
                 {"threads", row.threads}};
    json.update(timed_row(row.seconds));
    list.push_back(json);
  }
  return list;
}

Json expert_rows(const std::vector<ExpertCheck>& rows) {
  Json list = Json::array();
  for (const ExpertCheck& check : rows) {
    const ExpertRow& row = check.measured;
    Json json = {{"format", device_format(row.format)},
                 {"hidden", row.shape.hidden},
                 {"intermediate", row.shape.intermediate},
                 {"threads", row.threads}};
    json.update(timed_row(row.seconds));
    json["model_us"] = significant(check.model_s * 1e6);
    list.push_back(json);
  }
  return list;
}

Json read_rows(const std::vector<ReadRow>& rows) {
  Json list = Json::array();
  for (const ReadRow& row : rows) {
    Json json = {{"method", row.cell.method == ReadMethod::kLanes ? "lanes" : "io_uring"},
                 {"order", row.cell.sequential ? "sequential" : "random"},
                 {"read_kib", row.cell.read_bytes / 1024},
                 {"depth", row.cell.depth}};
    json.update(row_of("gbps", row.bytes_per_s, 1e-9));
    list.push_back(json);
  }
  return list;
}

}  // namespace

double significant(double value) {
  constexpr double kDigits = 5;
  if (value == 0 || !std::isfinite(value)) return value;
  const double places = kDigits - 1 - std::floor(std::log10(std::abs(value)));
  // Whole powers of ten only, so that the result is the double nearest to its decimal.
  const double scale = std::pow(10, std::abs(places));
  return places < 0 ? std::round(value / scale) * scale : std::round(value * scale) / scale;
}

Json calibration_tables(const MachineMeasurements& measured, const MachineKernels& kernels,
                        const MachineFlash& flash) {
  const MachineFacts& facts = measured.facts;
  Json json = {{"cores", facts.cores},
               {"simd", facts.simd},
               {"direct_reads", facts.direct},
               {"scratch_mib", measured.scratch_bytes >> 20},
               {"stream_mib", facts.stream_bytes >> 20}};
  json["streams"] = thread_rows(measured.streams, "ms", 1e3);
  json["barriers"] = thread_rows(measured.barriers, "us", 1e6);
  json["operators"] = row_of("us", measured.operators_s, 1e6);
  json["operators"]["hidden"] = measured.hidden;
  json["operators"]["outputs"] = measured.outputs;
  json["products"] = product_rows(measured.products);
  json["kernel_model_quality"] = kernel_quality_json(kernels.fit.quality);
  json["experts"] = expert_rows(kernels.experts);
  json["reads"] = read_rows(measured.reads);
  json["flash_fit"] = {{"cells", flash.fitted_cells},
                       {"rms", significant(flash.rms)},
                       {"all_cells", flash.table.size()},
                       {"rms_all", significant(flash.rms_all)}};
  if (!measured.fault_s.empty()) {
    json["page_faults"] = row_of("us", summarise(measured.fault_s), 1e6);
  }
  json["admission"] = row_of("us_per_page", measured.admit_s, 1e6);
  return json;
}

}  // namespace moesim
