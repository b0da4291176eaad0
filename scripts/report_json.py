"""Files of text and JSON, read as strictly as the program reads them."""

import json
import math
from pathlib import Path

from report_error import ReportError


def shown(value):
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def is_finite(text):
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def is_number(value):
    """Finite as a double, and no boolean."""
    try:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def no_constant(name):
    raise ValueError(f"{name} is no JSON number")


def finite(text, kind):
    if not is_finite(text):
        raise ValueError(f"{text if len(text) <= 40 else text[:37] + '...'} is no finite number")
    return kind(text)


def each_key_once(items):
    found = dict(items)
    if len(found) < len(items):
        names = [name for name, _ in items]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(twice)} twice in an object")
    return found


def parse_json(text, source):
    """What the program would read: no key twice, every number finite."""
    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=each_key_once,
                          parse_float=lambda n: finite(n, float), parse_int=lambda n: finite(n, int))  # fmt: skip
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ReportError(f"{source}: expected JSON, got {error.msg.lower()} at {place}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{source}: expected JSON, got {error}") from None


def read_text(path):
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ReportError(f"{path}: cannot be read: {error.strerror.lower()}") from None
    except UnicodeDecodeError:
        raise ReportError(f"{path}: expected text in UTF-8, got other bytes") from None
