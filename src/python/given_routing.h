// The routing policy that was given to a run itself, beside those that have a name in the registry.
#pragma once

#include "config/json_file.h"
#include "python/python_routing.h"

namespace moesim::python {

// The policy of the runs of this thread while it lives. REQUIRES: the GIL when made and destroyed.
class GivenRouting {
 public:
  // Registers the name that stands for it, on first use. Throws std::runtime_error inside another
  // run, as register_routing does.
  explicit GivenRouting(const RoutingDeclaration& declaration);
  ~GivenRouting();
  GivenRouting(const GivenRouting&) = delete;
  GivenRouting& operator=(const GivenRouting&) = delete;

  // Puts it into a configuration, where `routing.k` stays.
  void enter(Json& config) const;

 private:
  const RoutingDeclaration& declaration_;
  const RoutingDeclaration* outer_;
};

}  // namespace moesim::python
