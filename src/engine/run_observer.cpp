#include "engine/run_observer.h"

#include "core/errors.h"

namespace moesim {

const char* to_string(TimePart part) {
  switch (part) {
    case TimePart::kCompute:
      return "compute";
    case TimePart::kFlashStall:
      return "flash_stall";
    case TimePart::kAdmission:
      return "admission";
    case TimePart::kPredictor:
      return "predictor";
    case TimePart::kOverhead:
      return "overhead";
  }
  throw InvariantError("unknown part of time");
}

const char* to_string(PathPart part) {
  switch (part) {
    case PathPart::kAttention:
      return "attention";
    case PathPart::kDenseFfn:
      return "dense_ffn";
    case PathPart::kRouter:
      return "router";
    case PathPart::kExperts:
      return "experts";
    case PathPart::kSharedExperts:
      return "shared_experts";
    case PathPart::kHead:
      return "head";
    case PathPart::kFlashDevice:
      return "flash_device";
    case PathPart::kFlashHost:
      return "flash_host";
    case PathPart::kAdmission:
      return "admission";
    case PathPart::kPredictor:
      return "predictor";
    case PathPart::kOverhead:
      return "overhead";
    case PathPart::kLink:
      return "link";
  }
  throw InvariantError("unknown part of the critical path");
}

}  // namespace moesim
