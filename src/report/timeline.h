// A Chrome/Perfetto timeline: tracks for tokens, the compute agent, each flash lane, and the cache.
// Waiting for flash is a slice of its own on the compute track, so that a stall shows at a glance.
#pragma once

#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

#include "config/json_file.h"
#include "engine/run_observer.h"

namespace moesim {

class Timeline final : public RunObserver {
 public:
  // Model layers of the MoE layers, so that reads and misses are numbered like everything else;
  // without them MoE layers are counted from 0.
  void name_layers(const std::vector<std::size_t>& moe_layers) { moe_layers_ = moe_layers; }

  // Names of the tiers behind the cache, nearest first, where the device has any.
  void name_tiers(std::vector<std::string> names) { tiers_ = std::move(names); }

  void on_visit(const Pass& pass, LayerId layer, const VisitOutcome& visit, TimePoint at) override;
  void on_pass(const PassRecord& record) override;
  void on_job(const JobSpan& job) override;
  void on_read(const ReadSpan& read) override;
  void on_stall(TimePoint start, TimePoint end) override;

  // {"traceEvents": [...]}:
  // https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
  void write(std::ostream& out) const;

 private:
  struct Slice {
    int process = 0;
    std::size_t track = 0;
    std::string name;
    const char* category = "";
    TimePoint start{};
    Duration length{};
    Json arguments;
  };
  void add(Slice slice) { slices_.push_back(std::move(slice)); }
  [[nodiscard]] std::size_t model_layer(LayerId layer) const {
    return index(layer) < moe_layers_.size() ? moe_layers_[index(layer)] : index(layer);
  }

  void add_transfer(const ReadSpan& read);

  std::vector<std::size_t> moe_layers_;
  std::vector<std::string> tiers_;

  std::vector<Slice> slices_;
  std::vector<Json> cache_events_;
  std::size_t lanes_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
};

}  // namespace moesim
