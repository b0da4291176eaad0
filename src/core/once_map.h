// Values that are made once per key, whoever asks first, and shared between threads.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

namespace moesim {

template <class Value>
class OnceMap {
 public:
  // Of more than `most` values the oldest are forgotten; who holds one keeps it.
  explicit OnceMap(std::size_t most) : most_(most) {}

  // Others who ask for the same key wait until it is made. What `make` throws goes to who made it;
  // the next one who asks tries again.
  std::shared_ptr<const Value> get(const std::string& key, const std::function<Value()>& make) {
    const std::shared_ptr<Slot> slot = slot_of(key);
    std::call_once(slot->made, [&] { slot->value = std::make_shared<const Value>(make()); });
    return slot->value;
  }

 private:
  struct Slot {
    std::once_flag made;
    std::shared_ptr<const Value> value;
  };

  std::shared_ptr<Slot> slot_of(const std::string& key) {
    const std::scoped_lock lock(mutex_);
    std::shared_ptr<Slot>& slot = slots_[key];
    if (slot) return slot;
    slot = std::make_shared<Slot>();
    order_.push_back(key);
    std::shared_ptr<Slot> result = slot;
    if (order_.size() > most_) {
      slots_.erase(order_.front());
      order_.pop_front();
    }
    return result;
  }

  std::size_t most_;
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Slot>> slots_;
  std::deque<std::string> order_;  // of the keys, oldest first
};

}  // namespace moesim
