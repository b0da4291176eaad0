"""moesim: simulates memory-constrained decoding of mixture-of-experts models (docs/python.md)."""

import json
from pathlib import Path

from moesim import _moesim
from moesim._moesim import UserError, Visit
from moesim._routing import register_routing
from moesim._run import Result, resolved_config, run
from moesim._trace import Trace

__all__ = [
    "Result",
    "Trace",
    "UserError",
    "Visit",
    "commit",
    "devices",
    "models",
    "policies",
    "register_routing",
    "resolved_config",
    "run",
    "version",
]

version = _moesim.version
commit = _moesim.commit

# Models and devices that are named in a configuration: a package that was installed brings them
# along, one in a build folder finds those of the source tree.
_CONFIGS = Path(__file__).resolve().parent / "configs"
if _CONFIGS.is_dir():
    _moesim.carry_builtin_folder(str(_CONFIGS))


def models():
    """Names of the models that a configuration may name."""
    return _moesim.builtin_names("models")


def devices():
    """Names of the devices that a configuration may name."""
    return _moesim.builtin_names("devices")


def policies(kind):
    """The policies of a kind, "routing", "eviction" or "prefetch", with their parameters: a list of
    dictionaries as `sim list KIND --json` prints them, those registered here included."""
    return json.loads(_moesim.policies_json(kind))
