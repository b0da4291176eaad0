// Devices of configs/devices.
#pragma once

#include <string>

#include "hardware/device.h"
#include "support/testing.h"

namespace moesim::test {

inline Device shipped_device(const std::string& name) {
  const std::filesystem::path path = source_dir() / "configs/devices" / (name + ".json");
  return read_device(Section(read_json_file(path, name), name, ""));
}

inline FlashSpec shipped_flash(const std::string& name) {
  return shipped_device(name).flash.value();
}

}  // namespace moesim::test
