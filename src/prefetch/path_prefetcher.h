// A prefetcher that names what a PathPredictor expects.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "cache/path_predictor.h"
#include "prefetch/limits.h"

namespace moesim {

template <class Path>
class PathPrefetcher : public LimitedPrefetcher {
 public:
  PathPrefetcher(Section& config, std::uint64_t max_distance, Path path)
      : LimitedPrefetcher(config, max_distance), path_(std::move(path)) {}

  void predict(const PrefetchQuery& query, std::vector<ExpertKey>& wanted) override {
    path_.predict({query.target_layer, query.target_event, query.ahead}, wanted);
  }
  void observe(LayerId layer, std::span<const ExpertId> executed) override {
    path_.observe(layer, executed);
  }
  void begin_sequence() override { path_.begin_sequence(); }
  [[nodiscard]] bool looks_ahead() const override { return path_.looks_ahead(); }

 protected:
  [[nodiscard]] Path& path() { return path_; }

 private:
  Path path_;
};

}  // namespace moesim
