// A trace as Python holds it, and as it is given to a run.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "trace/trace.h"

namespace moesim::python {

// Safe to use from several threads.
class HeldTrace {
 public:
  // `path`: "" for one that is in memory; `sha256`: "" where it is to be computed when needed.
  HeldTrace(Trace trace, std::string path, std::string sha256);

  [[nodiscard]] const Trace& trace() const { return *trace_; }
  [[nodiscard]] const std::shared_ptr<const Trace>& shared() const { return trace_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  // Of the file, or of the file that save() would write. Throws UserError.
  [[nodiscard]] std::string sha256() const;

 private:
  std::shared_ptr<const Trace> trace_;
  std::string path_;
  mutable std::mutex computing_;
  mutable std::string sha256_;
};

}  // namespace moesim::python
