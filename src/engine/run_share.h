// What runs of one sweep have in common and therefore make once: opened traces, and the accesses of
// a routing that does not look at the cache.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/once_map.h"
#include "engine/access_log.h"
#include "trace/trace.h"

namespace moesim {

// Any thread may use it. Files must not change meanwhile.
class RunShare {
 public:
  // The trace, mapped and checked once. Throws as Trace::open().
  Trace trace(const std::filesystem::path& path, const std::string& shown) {
    return *traces_.get(path.string() + '\n' + shown, [&] { return Trace::open(path, shown); });
  }
  std::shared_ptr<const AccessLog> accesses(const std::string& key,
                                            const std::function<AccessLog()>& make) {
    return accesses_.get(key, make);
  }

 private:
  // Points that share something are neighbours in a grid; logs of long traces are large.
  OnceMap<Trace> traces_{16};
  OnceMap<AccessLog> accesses_{8};
};

}  // namespace moesim
