// Name -> factory, filled by self-registering objects: adding a policy is adding a file.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "config/section.h"

namespace moesim {

// A parameter that a policy takes. A null default means "must be given" or "absent"; `text` says
// which. The name is the key in the configuration.
struct Parameter {
  std::string name;
  Json default_value;
  std::string text;
  // What a value may be: "number", "integer", "boolean", "string", "array" or "file" (several with
  // " or "), and which ones: "[0, 1]", "(0, 1]", "[0, k]" (E: experts of a layer), or names "a|b".
  std::string type;
  std::string range;
  std::string source;  // paper and equation, code, or "own" where the project chose it
};

// What a policy is, where it is from, and at which setting it changes nothing.
struct About {
  // Parameters at which a routing policy equals top_k, given the native k.
  using Neutral = Json (*)(std::size_t k);
  About(std::string what, std::string from, Neutral at = nullptr)
      : description(std::move(what)), source(std::move(from)), neutral(at) {}

  std::string description;
  std::string source;
  Neutral neutral;  // null where there is no such setting, or nothing to be neutral to
};

// `Interface::Context` is what the factories of that interface receive beside the configuration.
template <class Interface>
class Registry {
 public:
  using Context = typename Interface::Context;
  // Reads its parameters from the Section; defaults have been filled in.
  using Factory = std::function<std::unique_ptr<Interface>(Section&, const Context&)>;

  struct Entry {
    About about;
    std::vector<Parameter> parameters;
    Factory factory;
  };

  static Registry& instance() {
    static Registry registry;
    return registry;
  }

  // Returns a value so that it can initialise a static object. A duplicate name ends the program
  // before main, naming itself.
  bool add(const std::string& name, Entry entry) {
    if (!entries_.emplace(name, std::move(entry)).second) {
      throw InvariantError("two policies are registered as " + name);
    }
    return true;
  }

  // Adds a policy while the program runs, or takes the place of the one of that name. Nobody may
  // look at the registry meanwhile.
  void replace(const std::string& name, Entry entry) {
    entries_.insert_or_assign(name, std::move(entry));
  }

  [[nodiscard]] const std::map<std::string, Entry>& all() const { return entries_; }

  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (const auto& [name, entry] : entries_) result.push_back(name);
    return result;
  }

  // The section with the defaults of its policy filled in: what --print-config shows and what the
  // factory reads. Throws UserError for an unknown policy or parameter.
  [[nodiscard]] Json resolve(Section section) const {
    const std::string name = section.choice("policy", names());
    Json resolved = {{"policy", name}};
    for (const Parameter& parameter : entries_.at(name).parameters) {
      section.accept(parameter.name);
      resolved[parameter.name] =
          section.has(parameter.name) ? section.raw(parameter.name) : parameter.default_value;
    }
    section.reject_unread_keys();
    return resolved;
  }

  // Makes the policy that `section` names. Throws UserError as resolve() and as the factory does.
  [[nodiscard]] std::unique_ptr<Interface> make(const Section& section,
                                                const Context& context) const {
    Section resolved(resolve(section), section.file(), section.pointer());
    const std::string name = resolved.string("policy");
    return entries_.at(name).factory(resolved, context);
  }

 private:
  std::map<std::string, Entry> entries_;
};

// Registers `Class` (constructible from Section& and const Interface::Context&) under `name`.
// `about` is an About(...); the variadic part are the parameters, braced:
// MOESIM_REGISTER(RoutingPolicy, MaxRank, "max_rank", About("what it does", "paper"),
//                 {"M", 12, "ranks that may be promoted", "integer", "[k, E]", "paper, eq. 1"}).
#define MOESIM_REGISTER(Interface, Class, name, about, ...)                                    \
  [[maybe_unused]] const bool k##Class##Registered = Registry<Interface>::instance().add(      \
      name,                                                                                    \
      {about, std::vector<Parameter>{__VA_ARGS__},                                             \
       [](Section& section, const Interface::Context& context) -> std::unique_ptr<Interface> { \
         return std::make_unique<Class>(section, context);                                     \
       }})

}  // namespace moesim
