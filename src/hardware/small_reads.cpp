#include "hardware/small_reads.h"

#include <algorithm>
#include <cmath>

#include "hardware/interpolate.h"

namespace moesim {
namespace {

constexpr double kPicoseconds = 1e12;

// Between these sizes the loss of several issuing cores fades out (hardware reference, 7.2).
constexpr double kIssuersWhole = 4096;
constexpr double kIssuersNone = 131072;

// The factor of the range, by its logarithm in size between the ranges of the device file.
double range_factor(const FlashSpec& spec, std::uint64_t range_bytes) {
  if (spec.range_derate.empty() || range_bytes == 0) return 1;
  using Point = std::pair<double, double>;
  return interpolate(
      spec.range_derate, std::log(to_mib(range_bytes)),
      [](const Point& point) { return std::log(point.first); },
      [](const Point& point) { return point.second; });
}

}  // namespace

// The factor of the range holds whole at the first point of the curve and fades out, evenly in the
// logarithm of the size, to the last: a straight line in the logarithms, as the curve between its
// points.
SmallReads::SmallReads(const FlashSpec& spec, std::size_t lanes, std::uint64_t range_bytes) {
  const bool shares_queue =
      spec.submission == Submission::kThreads && spec.queues == 1 && lanes > 1;
  if (shares_queue && spec.multi_issuer_derate < 1) {
    log_issuer_share_ = std::log(spec.multi_issuer_derate);
    end_ = static_cast<std::uint64_t>(kIssuersNone);
  }
  if (spec.small_read_curve.empty()) return;
  measured_.reserve(spec.small_read_curve.size());
  for (const auto& [kib, gbps] : spec.small_read_curve) {
    measured_.push_back({std::log(kib * 1024), std::log(gbps * 1e9)});
  }
  const double first = measured_.front().log_bytes;
  const double width = std::max(measured_.back().log_bytes - first, 1e-9);
  const double log_factor = std::log(range_factor(spec, range_bytes));
  for (Point& point : measured_) {
    point.log_rate += log_factor * (1 - (point.log_bytes - first) / width);
  }
  curve_ = measured_;
  curve_end_ = static_cast<std::uint64_t>(std::ceil(spec.small_read_curve.back().first * 1024));
  end_ = std::max(end_, curve_end_);
}

void SmallReads::meet(Duration queue_time, double derate) {
  if (curve_end_ == 0) return;
  for (std::size_t i = 0; i < curve_.size(); ++i) {
    curve_[i].log_rate = measured_[i].log_rate + std::log(derate);
  }
  Point& last = curve_.back();
  const double queue_ps = static_cast<double>(std::max<std::int64_t>(queue_time.count(), 1));
  last.log_rate = std::max(last.log_rate, last.log_bytes - std::log(queue_ps / kPicoseconds));
}

double SmallReads::curve_time(double log_bytes) const {
  const double at = std::max(log_bytes, curve_.front().log_bytes);
  const double log_rate = interpolate(
      curve_, at, [](const Point& point) { return point.log_bytes; },
      [](const Point& point) { return point.log_rate; });
  return kPicoseconds * std::exp(at - log_rate);
}

Duration SmallReads::service_time(std::uint64_t bytes, Duration queue_time) const {
  const double log_bytes = std::log(static_cast<double>(std::max<std::uint64_t>(bytes, 1)));
  double time = static_cast<double>(queue_time.count());
  if (bytes < curve_end_) time = std::max(time, curve_time(log_bytes));
  if (log_issuer_share_ < 0) {
    static const double kWidth = std::log(kIssuersNone / kIssuersWhole);
    const double left = (std::log(kIssuersNone) - log_bytes) / kWidth;
    time /= std::exp(log_issuer_share_ * std::clamp(left, 0.0, 1.0));
  }
  return Duration{std::llround(time)};
}

}  // namespace moesim
