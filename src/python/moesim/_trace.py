"""Traces from and to NumPy."""

import os
from collections.abc import Mapping

import numpy as np

from moesim import _moesim

# The types that the format stores each tensor in (docs/trace_format.md), by NumPy's names.
_FILE_TYPES = {
    "uint8": "U8",
    "uint16": "U16",
    "int32": "I32",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
}
# What is converted first, because the format does not have the type there.
_FLOATS = {"float64": "float32"}
_FIXED = {
    "token_ids": "int32",
    "sequence": "int32",
    "phase": "uint8",
    "expert_bytes": "int64",
    "selection_bias": "float32",
}


def _array(name, values):
    """The values as an array; an error where they are none, such as lists of unequal lengths."""
    try:
        array = np.asarray(values)
    except ValueError:
        array = None
    if array is None or array.dtype.kind in "OSU":
        got = "lists of unequal lengths" if array is None else array.dtype
        raise _moesim.UserError(f"Trace.from_numpy: {name}: expected an array of numbers, got {got}")
    return array


def _to_bfloat16(values):
    """The bits of the nearest BF16 numbers, even at ties."""
    bits = np.ascontiguousarray(values, "float32").view("uint32")
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("uint16")


def _from_bfloat16(bits):
    return (bits.astype("uint32") << 16).view("float32")


def _integers(name, values, wanted):
    """The values as integers of type `wanted`; an error where one does not fit."""
    if values.dtype.kind not in "iub":
        raise _moesim.UserError(f"Trace.from_numpy: {name}: expected integers, got {values.dtype}")
    limits = np.iinfo(wanted)
    if values.size and (int(values.min()) < limits.min or int(values.max()) > limits.max):
        raise _moesim.UserError(
            f"Trace.from_numpy: {name}: expected integers in [{limits.min}, {limits.max}], "
            f"got {int(values.min())} to {int(values.max())}"
        )
    return values.astype(wanted)


def _prepared(name, values, bfloat16):
    """(name, type in the file, array) of one tensor."""
    values = _array(name, values)
    if name in ("router_logits", "next_layer_logits") and bfloat16:
        if name == "router_logits":
            return name, "BF16", _to_bfloat16(values)
        values = np.asarray(values, "float32")
    if name in _FIXED and name != "selection_bias":
        values = _integers(name, values, _FIXED[name])
    elif name == "selection_bias":
        values = np.asarray(values, "float32")
    elif name == "topk_ids":
        if values.dtype.name not in ("uint8", "uint16", "int32"):
            values = _integers(name, values, "int32")
    else:
        values = values.astype(_FLOATS.get(values.dtype.name, values.dtype), copy=False)
    if values.dtype.name not in _FILE_TYPES:
        raise _moesim.UserError(
            f"Trace.from_numpy: {name}: expected float16, float32 or float64, got {values.dtype}"
        )
    # dtype.name says nothing of the byte order; a file has this machine's (little-endian) one.
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return name, _FILE_TYPES[values.dtype.name], native


class _Tensors(Mapping):
    """Name -> read-only array over the tensor where it lies in the mapped file. A BF16 tensor shows
    its bits as uint16."""

    def __init__(self, held):
        self._held = held
        self._names = [name for name, _, _ in held.tensor_list()]

    def __getitem__(self, name):
        return self._held.tensor(name)

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)


class Trace:
    """A recorded routing trace (docs/trace_format.md): Trace.load() or Trace.from_numpy()."""

    def __init__(self, held):
        self._held = held

    @classmethod
    def load(cls, path):
        """Maps and checks a file. Raises UserError."""
        return cls(_moesim.HeldTrace.load(os.fspath(path)))

    @classmethod
    def from_numpy(
        cls,
        logits=None,
        *,
        ids=None,
        weights=None,
        gate=None,
        top_k=None,
        experts=None,
        ranked=True,
        sequence=None,
        phase=None,
        token_ids=None,
        expert_bytes=None,
        selection_bias=None,
        next_layer_logits=None,
        router_input_l1=None,
        attention_received=None,
        bfloat16=False,
        model=None,
        provenance=None,
        metadata=None,
        name="<memory>",
    ):
        """A trace in memory, from `logits` [tokens, layers, experts] or `ids` [tokens, layers, k]
        (with `weights`), or both. Floats keep their type (float64 becomes float32; with `bfloat16`
        the logits are stored as BF16). `name` is what messages and results call it. Everything is
        checked as in a file. Raises UserError."""
        tensors = {
            "router_logits": logits,
            "topk_ids": ids,
            "topk_weights": weights,
            "sequence": sequence,
            "phase": phase,
            "token_ids": token_ids,
            "expert_bytes": expert_bytes,
            "selection_bias": selection_bias,
            "next_layer_logits": next_layer_logits,
            "router_input_l1": router_input_l1,
            "attention_received": attention_received,
        }
        given = [
            _prepared(tensor, values, bfloat16)
            for tensor, values in tensors.items()
            if values is not None
        ]
        facts = {"experts": experts, "top_k": top_k, "gate": gate}
        facts |= {"model": model, "provenance": provenance}
        texts = {key: str(value) for key, value in (metadata or {}).items()}
        texts |= {key: str(value) for key, value in facts.items() if value is not None}
        if not ranked:
            texts["ranked"] = "0"
        texts |= {"format": "moesim.trace", "version": "1"}
        return cls(_moesim.HeldTrace.from_tensors(given, texts, name))

    def save(self, path):
        """Writes the file, which appears complete or not at all. Raises UserError."""
        self._held.save(os.fspath(path))

    @property
    def shape(self):
        """(tokens, layers, experts)."""
        return self._held.shape()

    @property
    def tensors(self):
        """Every tensor by its name in the file, as a read-only array that copies nothing."""
        return _Tensors(self._held)

    def _tensor(self, name):
        tensors = self.tensors
        return tensors[name] if name in tensors else None

    @property
    def logits(self):
        """[tokens, layers, experts]; None where there are none. A view of the file, but for BF16,
        which NumPy does not know: then a float32 copy."""
        types = {name: dtype for name, dtype, _ in self._held.tensor_list()}
        if types.get("router_logits") == "BF16":
            return _from_bfloat16(self._held.tensor("router_logits"))
        return self._tensor("router_logits")

    @property
    def ids(self):
        """[tokens, layers, k], a view; None where there are none."""
        return self._tensor("topk_ids")

    @property
    def weights(self):
        """[tokens, layers, k], a view; None where there are none."""
        return self._tensor("topk_weights")

    @property
    def sequence(self):
        """[tokens], a view; None where there is none."""
        return self._tensor("sequence")

    @property
    def phase(self):
        """[tokens], a view, 0 prefill and 1 decode; None where there is none: all decode."""
        return self._tensor("phase")

    @property
    def metadata(self):
        """The strings of the file, a new dictionary."""
        return self._held.metadata()

    @property
    def gate(self):
        """The gate code, "A" to "G"; None when unknown."""
        return self._held.gate() or None

    @property
    def top_k(self):
        """Experts that the recording ran; None when unknown."""
        return self._held.top_k()

    @property
    def ranked(self):
        """Whether ids are best first."""
        return self._held.ranked()

    @property
    def path(self):
        """The file; None where the trace is in memory."""
        return self._held.path() or None

    @property
    def sha256(self):
        """Of the file, or of the one that save() writes of a trace in memory."""
        return self._held.sha256()

    def __repr__(self):
        tokens, layers, experts = self.shape
        return f"<moesim.Trace {self._held.shown()}: {tokens} tokens, {layers} layers x {experts}>"
