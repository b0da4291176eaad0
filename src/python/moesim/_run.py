"""moesim.run() and what it returns."""

import json
import os
from collections.abc import Mapping

from moesim import _moesim, _routing
from moesim._plain import dumps
from moesim._trace import Trace


def _override_texts(overrides):
    """Overrides as the program takes them: /POINTER=VALUE."""
    if isinstance(overrides, Mapping):
        return [
            f"{pointer}={dumps(value, f'overrides: {pointer}')}"
            for pointer, value in overrides.items()
        ]
    if isinstance(overrides, (str, bytes)):
        raise TypeError("expected overrides as a dictionary or a list of texts, got one text")
    texts = list(overrides or [])
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"expected overrides as texts /POINTER=VALUE, got {text!r}")
    return texts


def _refuse_both(texts, argument, takes):
    """An override of what an argument of run() stands for would be ignored."""
    for text in texts:
        pointer, _, value = text.partition("=")
        if takes(pointer, value):
            raise _moesim.UserError(
                f"expected one of {argument}= and the override {pointer}, got both"
            )


def _keys(value):
    """The keys of an object in JSON; None: it is something else."""
    try:
        value = json.loads(value)
    except ValueError:
        return None
    return set(value) if isinstance(value, dict) else None


def _takes_trace(pointer, value):
    if pointer == "/trace":
        keys = _keys(value)
        return keys is None or "path" in keys
    return pointer == "/trace/path"


def _takes_routing(pointer, value):
    if pointer == "/routing":
        return _keys(value) not in (set(), {"k"})
    return pointer.startswith("/routing/") and pointer != "/routing/k"


def _split_trace(config):
    """The configuration with a name in the place of a Trace, and the trace, or None."""
    config = dict(config)
    trace = config.get("trace")
    if isinstance(trace, Trace):
        config["trace"] = {}
        return config, trace
    if isinstance(trace, Mapping) and isinstance(trace.get("path"), Trace):
        config["trace"] = {key: value for key, value in trace.items() if key != "path"}
        return config, trace["path"]
    return config, None


def _request(config, overrides, base_dir, trace):
    """The arguments that run and resolved_config have in common."""
    if trace is not None and not isinstance(trace, Trace):
        raise TypeError(f"expected a moesim.Trace, got {trace!r}")
    texts = _override_texts(overrides)
    if not isinstance(config, Mapping):
        if base_dir is not None:
            raise TypeError("base_dir is for a dictionary; paths in a file are relative to the file")
        path = os.fspath(config)
        if not path:
            raise _moesim.UserError("config: expected a path, got an empty one")
        if trace is not None:
            _refuse_both(texts, "trace", _takes_trace)
        return path, "", "", texts, trace and trace._held
    config, inner = _split_trace(config)
    trace = trace or inner
    if trace is not None:
        _refuse_both(texts, "trace", _takes_trace)
    base = "" if base_dir is None else os.fspath(base_dir)
    return "", dumps(config, "config: "), base, texts, trace and trace._held


class Result(Mapping):
    """The result of a run: the document of docs/metrics.md as a read-only mapping, per-token
    columns and selections as NumPy arrays that look into the result and keep it alive."""

    def __init__(self, outcome):
        self._outcome = outcome
        self._json = json.loads(outcome.json())
        self._tokens = outcome.columns()
        self._selections = outcome.selections()

    def __getitem__(self, key):
        return self._json[key]

    def __iter__(self):
        return iter(self._json)

    def __len__(self):
        return len(self._json)

    @property
    def json(self):
        """The document as a dictionary."""
        return self._json

    def to_json(self):
        """The document as text, to the byte what `sim run --json -` prints."""
        return self._outcome.json()

    def summary(self):
        """The text that `sim run` prints."""
        return self._outcome.summary()

    @property
    def tokens(self):
        """Column name -> array [measured tokens]; the columns of the CSV per token, but for
        read_bytes where nobody knows the size of an expert. Needs run(..., tokens=True)."""
        if not self._tokens:
            raise _moesim.UserError("Result.tokens: expected run(..., tokens=True), got tokens=False")
        return self._tokens

    @property
    def selections(self):
        """What ran for each measured token at each layer: "ids" (uint16; 65535: none), "weights"
        (float64) and "hits" (bool), each [measured tokens, layers, most experts of a visit], in the
        order of the policy. Needs run(..., selections=True)."""
        if not self._selections:
            raise _moesim.UserError(
                "Result.selections: expected run(..., selections=True), got selections=False"
            )
        return self._selections

    @property
    def warnings(self):
        """What to know before reading the numbers."""
        return self._json["warnings"]

    def __str__(self):
        return self.summary()

    def __repr__(self):
        return f"<moesim.Result of {self._json['tokens']['measured']} tokens>"


def run(
    config,
    overrides=(),
    *,
    trace=None,
    routing=None,
    tokens=False,
    selections=False,
    base_dir=None,
):
    """Runs a configuration: a path, or a dictionary whose paths are relative to `base_dir` (None: to
    the working directory). `overrides`: {"/pointer": value} or ["/pointer=value"], as --set.
    `trace`: a Trace in the place of the configuration's; a dictionary may hold it itself.
    `routing`: a policy in Python for this run (see register_routing), in the place of the
    configuration's; `routing.k` stays. `tokens`, `selections`: keep Result.tokens and .selections.

    Other threads run meanwhile. Raises UserError with the text that `sim` prints, RuntimeError for
    a defect of the program, and whatever a routing policy raises.
    """
    policy = None if routing is None else _routing.declaration(routing)
    request = _request(config, overrides, base_dir, trace)
    if policy is not None:
        _refuse_both(request[3], "routing", _takes_routing)
    return Result(_moesim.run(*request, policy, tokens, selections))


def resolved_config(config, overrides=(), *, trace=None, base_dir=None):
    """The configuration with every key in force, as `sim run --print-config`. Raises UserError."""
    return json.loads(_moesim.resolved_config(*_request(config, overrides, base_dir, trace)))
