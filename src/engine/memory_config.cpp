#include "engine/memory_config.h"

namespace moesim {

MemoryOptions read_memory_options(Section& root, std::optional<Device>& device, Json& resolved) {
  MemoryOptions memory;
  auto section = root.optional_object("memory");
  resolved["memory"] = nullptr;
  if (!device) {
    if (!section) return memory;
    throw root.error("memory", "expected none, because without a device nothing limits memory");
  }
  memory.app_budget_mib = device->memory.app_budget_mib;
  std::string dense_pages = "anonymous";
  std::string expert_pages = "on_demand";
  if (section) {
    memory.app_budget_mib =
        section->number_or("app_budget_mib", memory.app_budget_mib, {0.0, 1e12, true});
    dense_pages = section->choice_or("dense_pages", dense_pages, {"anonymous", "file", "pinned"});
    expert_pages = section->choice_or("expert_pages", expert_pages, {"on_demand", "reserved"});
    memory.buffers_mib = section->number_or("buffers_mib", memory.buffers_mib, {0.0, 1e12});
    if (dense_pages == "file" && !(device->flash && device->flash->mmap_fault_us)) {
      throw section->error("dense_pages", "expected anonymous or pinned, because the device " +
                                              device->name +
                                              " has no flash.mmap_fault_us, got file");
    }
  }
  if (dense_pages == "file") memory.dense_pages = DensePages::kFile;
  if (dense_pages == "pinned") memory.dense_pages = DensePages::kPinned;
  memory.reserves_experts = expert_pages == "reserved";
  if (memory.reserves_experts) device->memory.admit_us_per_page = 0;
  resolved["memory"] = {{"app_budget_mib", memory.app_budget_mib},
                        {"dense_pages", dense_pages},
                        {"expert_pages", expert_pages},
                        {"buffers_mib", memory.buffers_mib}};
  return memory;
}

}  // namespace moesim
