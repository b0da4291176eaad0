"""What JSON has, from what Python and NumPy have."""

import json
import math
import os
from collections.abc import Mapping

from moesim import _moesim


def plain(value, place, what="a configuration"):
    """The value in JSON's types: NumPy's numbers and arrays, and paths, as what they stand for.
    `place` is what a UserError for a number that JSON does not have begins with."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{place.removesuffix(': ')}: expected texts as keys, got {key!r}")
        return {key: plain(item, f"{place}/{key}", what) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{place}/{i}", what) for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise _moesim.UserError(f"{place.removesuffix(': ')}: expected a finite number, got {value!r}")
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"{what} cannot hold a {type(value).__name__}: {value!r}")


def dumps(value, place):
    return json.dumps(plain(value, place))
