#include "config/json_file.h"

#include <fmt/format.h>

#include <set>
#include <vector>

#include "core/errors.h"
#include "core/files.h"

namespace moesim {
namespace {

// Builds the pointer of the value under way, and refuses a key that an object has already had;
// nlohmann/json alone would silently keep the last.
class DuplicateKeyGuard {
 public:
  explicit DuplicateKeyGuard(const std::string& shown) : shown_(shown) {}

  void operator()(Json::parse_event_t event, const Json& parsed) {
    switch (event) {
      case Json::parse_event_t::object_start:
        open_.push_back({});
        break;
      case Json::parse_event_t::object_end:
        open_.pop_back();
        break;
      case Json::parse_event_t::key: {
        Object& object = open_.back();
        object.current = parsed.get<std::string>();
        if (!object.keys.insert(object.current).second) {
          throw user_error(shown_ + ": " + pointer(), "duplicate key");
        }
        break;
      }
      default:
        break;
    }
  }

 private:
  struct Object {
    std::set<std::string> keys;
    std::string current;
  };

  // Array positions are left out: the key that repeats is what matters.
  [[nodiscard]] std::string pointer() const {
    std::string result;
    for (const Object& object : open_) result += "/" + object.current;
    return result;
  }

  const std::string& shown_;
  std::vector<Object> open_;
};

// Deeper values could exhaust the stack of whoever walks through them.
constexpr int kDeepest = 64;

// "line 3, column 5: ..." out of "[json.exception.parse_error.101] parse error at line 3, column 5:
// ...".
std::string readable(const std::string& what) {
  const std::string marker = "parse error at ";
  const auto at = what.find(marker);
  return at == std::string::npos ? what : what.substr(at + marker.size());
}

}  // namespace

Json parse_json(const std::string& text, const std::string& shown) {
  DuplicateKeyGuard guard(shown);
  try {
    return Json::parse(text, [&](int depth, Json::parse_event_t event, Json& parsed) {
      if (depth > kDeepest) {
        throw user_error(shown,
                         fmt::format("expected JSON of at most {} levels, got more", kDeepest));
      }
      guard(event, parsed);
      return true;
    });
  } catch (const Json::exception& error) {
    throw user_error(shown, "expected JSON, got an error at " + readable(error.what()));
  }
}

Json read_json_file(const std::filesystem::path& path, const std::string& shown) {
  return parse_json(read_text_file(path, shown), shown);
}

}  // namespace moesim
