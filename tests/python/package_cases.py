"""What the tests of the Python package share."""

import json

CONFIG = "configs/phone.json"
SHORT = {"/trace/max_tokens": 40}
BUNDLED = "traces/reference-moe-small.safetensors"


def as_arguments(overrides):
    return [f"--set={pointer}={json.dumps(value)}" for pointer, value in overrides.items()]
