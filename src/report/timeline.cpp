#include "report/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <ostream>
#include <utility>

namespace moesim {
namespace {

constexpr int kDecode = 1;
constexpr int kFlash = 2;
constexpr int kCache = 3;
constexpr int kLinks = 4;
constexpr std::size_t kTokenTrack = 1;
constexpr std::size_t kComputeTrack = 2;

double microseconds(TimePoint at) { return to_us(at.time_since_epoch()); }

Json name_event(const char* what, int process, std::size_t track, const std::string& name) {
  return {
      {"ph", "M"}, {"name", what}, {"pid", process}, {"tid", track}, {"args", {{"name", name}}}};
}

std::string job_name(const JobSpan& job) {
  std::string name = to_string(job.kind);
  if (job.part == TimePart::kPredictor) name = "predictor";
  if (job.kind != TaskKind::kHead) name += fmt::format(" L{}", job.hidden_layer);
  if (job.has_expert) name += fmt::format(" E{}", job.expert);
  return name;
}

}  // namespace

void Timeline::on_visit(const Pass& /*pass*/, LayerId layer, const VisitOutcome& visit,
                        TimePoint at) {
  Json missed = Json::array();
  for (const Access& access : visit.accesses) {
    if (access.kind == AccessKind::kHit) {
      ++hits_;
    } else {
      ++misses_;
      missed.push_back(index(access.expert));
    }
  }
  const double when = microseconds(at);
  cache_events_.push_back({{"ph", "C"},
                           {"name", "accesses"},
                           {"pid", kCache},
                           {"ts", when},
                           {"args", {{"hits", hits_}, {"misses", misses_}}}});
  if (missed.empty()) return;
  cache_events_.push_back({{"ph", "i"},
                           {"s", "t"},
                           {"name", fmt::format("{} miss L{}", missed.size(), model_layer(layer))},
                           {"cat", "cache"},
                           {"pid", kCache},
                           {"tid", 1},
                           {"ts", when},
                           {"args", {{"experts", missed}, {"evicted", visit.evicted.size()}}}});
}

void Timeline::on_pass(const PassRecord& record) {
  const Pass& pass = *record.pass;
  const std::uint64_t arrived =
      record.tiers.empty() ? record.flash.bytes : record.tiers[0].link.bytes;
  std::string name = fmt::format("token {}", pass.first);
  if (pass.phase == Phase::kPrefill) name = fmt::format("prefill of {}", pass.count);
  if (!pass.tokens.empty()) name = fmt::format("{} tokens from {}", pass.tokens.size(), pass.first);
  add({kDecode,
       kTokenTrack,
       name,
       "token",
       record.start,
       record.end - record.start,
       {{"hits", record.cache.hits},
        {"misses", record.cache.misses},
        {"mib_read", to_mib(arrived)}}});
}

void Timeline::on_job(const JobSpan& job) {
  const char* category = to_string(job.part);
  add({kDecode,
       kComputeTrack,
       job_name(job),
       category,
       job.start,
       job.end - job.start,
       {{"fixed_us", to_us(job.fixed)}, {"speculative", job.speculative}}});
}

void Timeline::on_stall(TimePoint start, TimePoint end) {
  const char* what = tiers_.empty() ? "STALL: waiting for flash" : "STALL: waiting for the store";
  add({kDecode, kComputeTrack, what, "flash_stall", start, end - start, {}});
}

// A link moves one transfer at a time, so its track has one slice for each.
void Timeline::add_transfer(const ReadSpan& read) {
  const char* kind = read.speculative ? "prefetch" : "read";
  add({kLinks,
       read.hop + std::size_t{1},
       fmt::format("{} L{} E{}", kind, model_layer(read.layer), index(read.expert)),
       kind,
       read.service_start,
       read.end - read.service_start,
       {{"bytes", read.bytes}}});
}

void Timeline::on_read(const ReadSpan& read) {
  if (read.over_link) {
    add_transfer(read);
    return;
  }
  lanes_ = std::max(lanes_, read.lane + 1);
  const char* kind = read.speculative ? "prefetch" : "read";
  const std::size_t track = read.lane + 1;
  add({kFlash,
       track,
       fmt::format("{} L{} E{}", kind, model_layer(read.layer), index(read.expert)),
       kind,
       read.lane_start,
       read.end - read.lane_start,
       {{"bytes", read.bytes}}});
  add({kFlash, track, "host", "host", read.lane_start, read.host_end - read.lane_start, {}});
  if (read.service_start > read.host_end) {
    add({kFlash, track, "queued", "queued", read.host_end, read.service_start - read.host_end, {}});
  }
  add({kFlash,
       track,
       "device",
       "device",
       read.service_start,
       read.service_end - read.service_start,
       {}});
  if (read.end > read.service_end) {
    add({kFlash, track, "copy", "copy", read.service_end, read.end - read.service_end, {}});
  }
}

void Timeline::write(std::ostream& out) const {
  out << "{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n";
  std::vector<Json> names{name_event("process_name", kDecode, 0, "decode"),
                          name_event("thread_name", kDecode, kTokenTrack, "tokens"),
                          name_event("thread_name", kDecode, kComputeTrack, "compute"),
                          name_event("process_name", kFlash, 0, "flash"),
                          name_event("process_name", kCache, 0, "cache"),
                          name_event("thread_name", kCache, 1, "misses")};
  for (std::size_t lane = 0; lane < lanes_; ++lane) {
    names.push_back(name_event("thread_name", kFlash, lane + 1, fmt::format("lane {}", lane)));
  }
  if (!tiers_.empty()) names.push_back(name_event("process_name", kLinks, 0, "links"));
  for (std::size_t tier = 0; tier < tiers_.size(); ++tier) {
    names.push_back(name_event("thread_name", kLinks, tier + 1, "from " + tiers_[tier]));
  }
  const char* separator = "";
  const auto line = [&](const Json& event) {
    out << std::exchange(separator, ",\n") << event.dump();
  };
  for (const Json& event : names) line(event);
  for (const Slice& slice : slices_) {
    Json event = {{"ph", "X"},
                  {"name", slice.name},
                  {"cat", slice.category},
                  {"pid", slice.process},
                  {"tid", slice.track},
                  {"ts", microseconds(slice.start)},
                  {"dur", to_us(slice.length)}};
    if (std::string_view(slice.category) == "flash_stall") event["cname"] = "terrible";
    if (!slice.arguments.is_null()) event["args"] = slice.arguments;
    line(event);
  }
  for (const Json& event : cache_events_) line(event);
  out << "\n]}\n";
}

}  // namespace moesim
