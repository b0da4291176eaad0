#include "config/builtin.h"

#include <stdlib.h>

#include <algorithm>
#include <fstream>

#include "support/testing.h"

namespace moesim::test {

namespace fs = std::filesystem;

// Points MOESIM_CONFIG_DIR at a folder of its own, with models/tiny.json and models/huge.json.
class ConfigFolder {
 public:
  ConfigFolder() {
    fs::create_directories(folder_.path() / "models");
    for (const char* name : {"tiny", "huge"}) write(std::string("models/") + name + ".json");
    write("models/notes.txt");
    ::setenv("MOESIM_CONFIG_DIR", folder_.path().c_str(), 1);
  }
  ~ConfigFolder() { ::unsetenv("MOESIM_CONFIG_DIR"); }
  ConfigFolder(const ConfigFolder&) = delete;
  ConfigFolder& operator=(const ConfigFolder&) = delete;

  [[nodiscard]] const fs::path& path() const { return folder_.path(); }

 private:
  void write(const std::string& relative) {
    std::ofstream(folder_.path() / relative) << R"({"from": ")" << relative << "\"}";
  }
  TemporaryFolder folder_;
};

Section parent_of(const char* text) { return {parse_json(text, "run.json"), "run.json", ""}; }

TEST_SUITE("config/builtin") {
  TEST_CASE("built-in names are the JSON files of a kind, sorted") {
    const ConfigFolder folder;
    CHECK(builtin_names("models") == std::vector<std::string>{"huge", "tiny"});
    CHECK(builtin_path("models", "tiny") == folder.path() / "models/tiny.json");
    CHECK(user_error_of([] { builtin_path("models", "tinny"); }) ==
          "built-in models: unknown value \"tinny\"; known: huge, tiny; nearest: tiny");
    CHECK(user_error_of([] { builtin_names("devices"); }) ==
          (folder.path() / "devices").string() + ": no such folder");
  }

  TEST_CASE("a wrong MOESIM_CONFIG_DIR is named") {
    ::setenv("MOESIM_CONFIG_DIR", "/nowhere/at/all", 1);
    CHECK(user_error_of([] { builtin_names("models"); }) ==
          "MOESIM_CONFIG_DIR: no folder /nowhere/at/all");
    ::unsetenv("MOESIM_CONFIG_DIR");
  }

  TEST_CASE("without the variable the models of the source tree are found") {
    ::unsetenv("MOESIM_CONFIG_DIR");
    const std::vector<std::string> names = builtin_names("models");
    CHECK(std::find(names.begin(), names.end(), "olmoe-1b-7b") != names.end());
  }

  TEST_CASE("who brings the folder along says where it is, and the variable is asked first") {
    const TemporaryFolder carried;
    fs::create_directories(carried.path() / "models");
    std::ofstream(carried.path() / "models/own.json") << "{}";
    carry_builtin_folder(carried.path());
    CHECK(builtin_names("models") == std::vector<std::string>{"own"});
    {
      const ConfigFolder folder;
      CHECK(builtin_folder() == folder.path());
    }
    carry_builtin_folder({});
    CHECK(builtin_folder() != carried.path());
  }

  TEST_CASE("a reference is an object, a file beside its parent or a built-in name") {
    const ConfigFolder folder;
    ConfigSource source;
    Section inline_parent = parent_of(R"({"model": {"from": "here"}})");
    Section object = open_reference(inline_parent, "model", "models", folder.path(), &source);
    CHECK(object.pointer() == "/model");
    CHECK(source.file.empty());
    CHECK(source.shown == "run.json");
    CHECK(object.string("from") == "here");
    CHECK_NOTHROW(inline_parent.reject_unread_keys());

    Section by_path = parent_of(R"({"model": "models/tiny.json"})");
    CHECK(open_reference(by_path, "model", "models", folder.path(), &source).string("from") ==
          "models/tiny.json");
    CHECK(source.file == folder.path() / "models/tiny.json");

    Section by_name = parent_of(R"({"model": "huge"})");
    Section named = open_reference(by_name, "model", "models", "/elsewhere", &source);
    CHECK(named.file() == "built-in models/huge.json");
    CHECK(source.file == folder.path() / "models/huge.json");
  }

  TEST_CASE("a wrong reference names the place in the parent") {
    const ConfigFolder folder;
    const auto message = [&](const char* text) {
      return user_error_of([&] {
        Section parent = parent_of(text);
        open_reference(parent, "model", "models", folder.path());
      });
    };
    CHECK(message(R"({"model": "hug"})") ==
          "run.json: /model: unknown value \"hug\"; known: huge, tiny; nearest: huge");
    CHECK(message(R"({"model": "models/none.json"})") ==
          "run.json: /model: " + (folder.path() / "models/none.json").string() +
              ": expected a file, got nothing: no such file");
    CHECK(message(R"({"model": 3})") ==
          "run.json: /model: expected a file, a built-in name or an object, got 3");
    CHECK(message("{}") == "run.json: /model: missing key");
  }

  TEST_CASE("on the command line a model is a built-in name or a file") {
    const ConfigFolder folder;
    CHECK(open_named("tiny", "models").file() == "built-in models/tiny.json");
    const std::string path = (folder.path() / "models/huge.json").string();
    CHECK(open_named(path, "models").file() == path);
    CHECK(user_error_of([] { open_named("tinier", "models"); }) ==
          "built-in models: unknown value \"tinier\"; known: huge, tiny; nearest: tiny");
  }
}

}  // namespace moesim::test
