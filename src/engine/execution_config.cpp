#include "engine/execution_config.h"

#include <fmt/format.h>

#include "engine/compute_options.h"
#include "hardware/page_faults.h"

namespace moesim {
namespace {

bool has_bounce_rate(const FlashSpec* flash) { return flash != nullptr && flash->bounce_gbps > 0; }

// What is said. Where nothing is: slices of an expert lie anywhere in their file, so that direct
// reads need a bounce buffer (hardware reference, 1.2); an expert in one run of bytes is taken to
// lie on a page.
std::optional<bool> read_bounce(Section& section, const FlashSpec* flash) {
  section.accept("bounce");
  if (!section.has("bounce")) return std::nullopt;
  const bool bounce = section.boolean("bounce");
  if (bounce && !has_bounce_rate(flash)) {
    throw section.error("bounce",
                        "expected false or null, because the device has no flash.bounce_gbps");
  }
  return bounce;
}

void check_mmap(const Section& section, const std::optional<Device>& device,
                const std::string& overlap, const ExecutionOptions& execution) {
  const auto refuse = [&section](const std::string& why) {
    return section.error("read_path", "expected direct, because " + why + ", got mmap");
  };
  if (!device) throw refuse("without a device there is no time");
  if (!device->tiers.empty()) throw refuse("a tier lies between flash and the cache");
  if (!device->flash->mmap_fault_us) {
    throw refuse("the device " + device->name + " has no flash.mmap_fault_us");
  }
  if (overlap != "none") {
    throw section.error("overlap",
                        "expected none with read_path mmap, because the page faults are within "
                        "the product, got " +
                            overlap);
  }
  if (execution.bounce.value_or(false)) {
    throw section.error("bounce",
                        "expected false or null with read_path mmap, because pages land where "
                        "they are used, got true");
  }
  if (section.has("lanes") && execution.lanes != execution.threads) {
    throw section.error("lanes",
                        fmt::format("expected none, or the {} threads, with read_path mmap, got "
                                    "{}",
                                    execution.threads, execution.lanes));
  }
}

}  // namespace

ExecutionOptions read_execution(Section& root, const std::optional<Device>& device,
                                BatchOptions& batch, Json& resolved) {
  ExecutionOptions execution;
  const FlashSpec* flash = device && device->flash ? &*device->flash : nullptr;
  execution.lanes = flash != nullptr ? flash->lanes : 1;
  execution.threads = device ? device->cpu.threads : 1;
  std::string overlap = "none";
  std::string layout = "slices";
  std::string scheduler = "none";
  std::string read_path = "direct";
  const std::optional<Section> given = root.optional_object("execution");
  if (auto section = given) {
    overlap = section->choice_or("overlap", overlap, {"none", "expert", "projection"});
    layout = section->choice_or("expert_layout", layout, {"slices", "fused", "contiguous"});
    execution.lanes = section->integer_or("lanes", execution.lanes, 1, 1024);
    if (flash != nullptr && execution.lanes > flash->qd_limit) {
      throw section->error("lanes",
                           fmt::format("expected at most the device's qd_limit, {}, got {}",
                                       flash->qd_limit, execution.lanes));
    }
    execution.threads = section->integer_or("threads", execution.threads, 1, 1024);
    execution.service_noise = section->boolean_or("service_noise", false);
    batch.size = section->integer_or("batch", 1, 1, 4096);
    scheduler = section->choice_or("scheduler", scheduler, {"none", "expertflow"});
    execution.bounce = read_bounce(*section, flash);
    read_path = section->choice_or("read_path", read_path, {"direct", "mmap"});
    if (read_path == "mmap") {
      check_mmap(*section, device, overlap, execution);
      execution.read_path = ReadPath::kMmap;
      execution.bounce = false;
      execution.lanes = execution.threads;
    }
  }
  if (!execution.bounce && has_bounce_rate(flash)) execution.bounce = layout != "contiguous";
  if (scheduler == "expertflow") batch.scheduler = TokenSchedulerKind::kExpertFlow;
  execution.overlap = overlap == "none"     ? Overlap::kNone
                      : overlap == "expert" ? Overlap::kExpert
                                            : Overlap::kProjection;
  execution.layout = layout == "slices"  ? ExpertLayout::kSlices
                     : layout == "fused" ? ExpertLayout::kFused
                                         : ExpertLayout::kContiguous;
  resolved = {{"overlap", overlap},
              {"lanes", execution.lanes},
              {"threads", execution.threads},
              {"expert_layout", layout},
              {"service_noise", execution.service_noise},
              {"batch", batch.size},
              {"scheduler", scheduler},
              {"read_path", read_path}};
  read_compute_options(given, root, device, execution, resolved);
  resolved["bounce"] = execution.bounce ? Json(*execution.bounce) : Json(nullptr);
  return execution;
}

void read_by_page_faults(Device& device, const ExecutionOptions& execution,
                         const Section& prefetch) {
  if (prefetch.json().at("policy") != "none") {
    throw prefetch.error("policy",
                         "expected none with execution.read_path mmap, because nobody reads but "
                         "the product itself");
  }
  device.flash = page_fault_path(*device.flash, execution.threads);
  device.dram.dma_factor = 1;
  device.memory.admit_us_per_page = 0;
}

}  // namespace moesim
