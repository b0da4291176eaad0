// Who looks at the registries of policies, and who adds to them: Python may register a policy while
// another thread is in the middle of a run.
#pragma once

#include <cstddef>
#include <mutex>
#include <shared_mutex>

namespace moesim::python {

// Held while a run, or whoever else reads the registries, goes on. Take it without the GIL where
// that may last. A run inside a routing policy of another run is one use.
class RegistryUse {
 public:
  RegistryUse() {
    if (depth()++ == 0) mutex().lock_shared();
  }
  ~RegistryUse() {
    if (--depth() == 0) mutex().unlock_shared();
  }
  RegistryUse(const RegistryUse&) = delete;
  RegistryUse& operator=(const RegistryUse&) = delete;

  // True in a thread that would wait for itself if it added a policy.
  [[nodiscard]] static bool is_here() { return depth() > 0; }
  // Held while a policy is added.
  [[nodiscard]] static std::unique_lock<std::shared_mutex> change() {
    return std::unique_lock(mutex());
  }

 private:
  static std::size_t& depth() {
    thread_local std::size_t uses = 0;
    return uses;
  }
  static std::shared_mutex& mutex() {
    static std::shared_mutex registries;
    return registries;
  }
};

}  // namespace moesim::python
