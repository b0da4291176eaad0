#include "engine/forecast.h"

#include <algorithm>

#include "core/errors.h"

namespace moesim {

Forecast::Forecast(Prefetcher& prefetcher, const RoutingShape& shape)
    : prefetcher_(prefetcher), shape_(shape), active_(prefetcher.active()) {
  named_.reserve(shape.experts);
  of_row_.reserve(shape.experts);
  kept_.reserve(2 * shape.experts);
}

void Forecast::after_visit(std::uint32_t token, LayerId layer, std::uint32_t event,
                           std::span<const ExpertId> executed) {
  prefetcher_.observe(layer, executed);
  token_ = token;
  layer_ = layer;
  executed_ = executed;
  next_event_ = event + visits(index(layer));  // repeats run what has just been seen
  next_layer_ = visited_from(index(layer) + 1);
}

bool Forecast::at_token_start(std::uint32_t token, std::uint32_t event) {
  if (!prefetcher_.predicts_at_token_start()) return false;
  token_ = token;
  layer_ = LayerId{0};
  executed_ = {};
  next_event_ = event;
  next_layer_ = visited_from(0);
  return true;
}

std::size_t Forecast::visited_from(std::size_t layer) const {
  const std::size_t end = layer + shape_.layers;
  while (layer < end && visits(layer) == 0) ++layer;
  return layer;
}

PrefetchQuery Forecast::query(std::uint32_t ahead) const {
  std::size_t layer = next_layer_ + ahead - 1;
  std::uint32_t event = next_event_ + ahead - 1;
  if (!executions_.empty()) {
    layer = next_layer_;
    event = next_event_;
    for (std::uint32_t step = 1; step < ahead; ++step) {
      event += visits(layer);
      layer = visited_from(layer + 1);
    }
  }
  return {token_,
          layer_,
          executed_,
          ahead,
          static_cast<LayerId>(layer % shape_.layers),
          event,
          layer >= shape_.layers};
}

std::span<const ExpertKey> Forecast::ask(std::uint32_t ahead) {
  named_.clear();
  if (rows_.size() > 1 && prefetcher_.looks_at_token()) {
    ask_each_row(ahead);
  } else {
    prefetcher_.predict(query(ahead), named_);
  }
  for (const ExpertKey key : named_) {
    if (index(key) >= shape_.layers * shape_.experts) {
      throw InvariantError("a predictor names an expert that does not exist");
    }
  }
  if (ahead == 1) keep_next();
  return named_;
}

// The union of what is named for each token, in the order of the tokens.
void Forecast::ask_each_row(std::uint32_t ahead) {
  PrefetchQuery about = query(ahead);
  for (const std::uint32_t row : rows_) {
    about.token = row;
    of_row_.clear();
    prefetcher_.predict(about, of_row_);
    for (const ExpertKey key : of_row_) {
      if (std::find(named_.begin(), named_.end(), key) == named_.end()) named_.push_back(key);
    }
  }
}

void Forecast::keep_next() {
  if (kept_event_ != next_event_) kept_.clear();
  kept_event_ = next_event_;
  for (const ExpertKey key : named_) {
    if (std::find(kept_.begin(), kept_.end(), key) == kept_.end()) kept_.push_back(key);
  }
}

std::span<const ExpertKey> Forecast::named_for(std::uint32_t event) const {
  if (event != kept_event_) return {};
  return kept_;
}

}  // namespace moesim
