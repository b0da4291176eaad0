"""Traces from and to NumPy."""

import json
import struct

import numpy as np
import pytest

from package_cases import BUNDLED, CONFIG, SHORT

pytestmark = pytest.mark.usefixtures("in_the_checkout")


def tensor_of(path, name):
    """A tensor read by hand."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    entry = json.loads(data[8 : 8 + length])[name]
    begin, end = entry["data_offsets"]
    dtype = {"F16": "<f2", "F32": "<f4", "U8": "u1", "I32": "<i4", "BF16": "<u2"}[entry["dtype"]]
    flat = np.frombuffer(data[8 + length :][begin:end], dtype)
    return flat.reshape(entry["shape"])


def test_a_trace_shows_the_file_without_a_copy(moesim, repo_root):
    trace = moesim.Trace.load(BUNDLED)
    assert trace.shape == trace.logits.shape
    assert np.array_equal(trace.logits, tensor_of(repo_root / BUNDLED, "router_logits"))
    assert np.shares_memory(trace.logits, trace.logits)
    assert np.shares_memory(trace.logits, trace.tensors["router_logits"])
    assert not trace.logits.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        trace.logits[0, 0, 0] = 1
    with pytest.raises(KeyError, match="nothing"):
        trace.tensors["nothing"]
    logits = trace.logits
    expected = logits.copy()
    del trace
    assert np.array_equal(logits, expected)


def test_a_tensor_may_lie_at_an_odd_place(moesim, tmp_path):
    values = np.arange(24, dtype="<f4").reshape(2, 3, 4)
    header = {
        "__metadata__": {"format": "moesim.trace", "version": "1", "gate": "A", "top_k": "2"},
        "router_logits": {"dtype": "F32", "shape": [2, 3, 4], "data_offsets": [0, 96]},
    }
    text = json.dumps(header).encode()
    text += b" " * (3 - len(text) % 4)
    path = tmp_path / "odd.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + values.tobytes())
    logits = moesim.Trace.load(path).logits
    assert not logits.flags.aligned
    assert np.array_equal(logits, values)


FORMS = [
    {"logits": np.random.default_rng(1).normal(size=(6, 2, 8)).astype(dtype)}
    for dtype in ("float16", "float32")
] + [
    {"ids": np.array([[[0, 3], [1, 255]], [[2, 1], [7, 0]]], "uint8"), "experts": 8},
    {
        "ids": np.array([[[0, 3]], [[2, 1]]], "uint16"),
        "weights": np.array([[[0.75, 0.25]], [[0.5, 0.5]]], "float16"),
        "sequence": np.array([0, 1], "int32"),
        "phase": np.array([1, 1], "uint8"),
        "token_ids": np.array([5, 6], "int32"),
        "expert_bytes": np.array([1000], "int64"),
    },
]


@pytest.mark.parametrize("form", FORMS)
def test_arrays_make_the_trip_through_a_file(moesim, tmp_path, form):
    trace = moesim.Trace.from_numpy(**form, gate="B", top_k=2, metadata={"note": "a"}, model="m")
    trace.save(tmp_path / "a.safetensors")
    loaded = moesim.Trace.load(tmp_path / "a.safetensors")
    names = {"logits": "router_logits", "ids": "topk_ids", "weights": "topk_weights"}
    for key, values in form.items():
        if key == "experts":
            assert loaded.shape[2] == values
            continue
        tensor = loaded.tensors[names.get(key, key)]
        assert tensor.dtype == values.dtype
        assert np.array_equal(tensor, values)
        assert np.array_equal(trace.tensors[names.get(key, key)], values)
    assert loaded.metadata == trace.metadata
    assert (loaded.metadata["note"], loaded.metadata["model"]) == ("a", "m")
    assert (loaded.gate, loaded.top_k, loaded.ranked) == ("B", 2, True)
    assert (trace.path, loaded.path) == (None, str(tmp_path / "a.safetensors"))
    assert trace.sha256 == loaded.sha256
    loaded.save(tmp_path / "b.safetensors")
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_other_types_become_those_of_the_format(moesim):
    values = np.array([[[1.0, 0.1, -2.5, 3.14159]]])
    assert moesim.Trace.from_numpy(values, top_k=1).logits.dtype == np.float32
    brain = moesim.Trace.from_numpy(values, top_k=1, bfloat16=True)
    assert brain.tensors["router_logits"].dtype == np.uint16
    assert brain.logits.tolist() == [[[1.0, 0.10009765625, -2.5, 3.140625]]]
    ids = moesim.Trace.from_numpy(ids=[[[1, 0]]], experts=4)
    assert ids.ids.dtype == np.int32
    assert moesim.Trace.from_numpy(ids=[[[1, 0]]], ranked=False).ranked is False


LOGITS = np.zeros((2, 1, 4), "float32")
BAD_ARRAYS = [
    ({}, "<memory>: expected a tensor router_logits or topk_ids, got neither of them"),
    (
        {"logits": np.full((2, 1, 4), np.nan, "float32")},
        '<memory>: tensor "router_logits": [token 0, layer 0, expert 0]: expected a finite number, '
        "got NaN",
    ),
    (
        {"logits": LOGITS.astype("complex64")},
        "Trace.from_numpy: router_logits: expected float16, float32 or float64, got complex64",
    ),
    (
        {"logits": LOGITS, "sequence": [0.5, 1]},
        "Trace.from_numpy: sequence: expected integers, got float64",
    ),
    (
        {"logits": LOGITS, "phase": [0, 300]},
        "Trace.from_numpy: phase: expected integers in [0, 255], got 0 to 300",
    ),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_ARRAYS)
def test_wrong_arrays_are_named(moesim, arrays, message):
    with pytest.raises(moesim.UserError) as error:
        moesim.Trace.from_numpy(**arrays)
    assert str(error.value) == message


def test_a_trace_takes_the_place_of_its_file(moesim, repo_root):
    trace = moesim.Trace.load(BUNDLED)
    of_file = dict(moesim.run(CONFIG, SHORT))
    in_memory = moesim.Trace.from_numpy(
        **{
            {"router_logits": "logits", "topk_ids": "ids", "topk_weights": "weights"}.get(n, n): t
            for n, t in trace.tensors.items()
        },
        metadata=trace.metadata,
        name="recorded just now",
    )
    for given, shown in [(trace, BUNDLED), (in_memory, "recorded just now")]:
        result = dict(moesim.run(CONFIG, SHORT, trace=given))
        assert result["config"]["trace"]["path"] == shown
        assert result["inputs"][1] == {"path": shown, "sha256": given.sha256}
        config = dict(moesim.resolved_config(CONFIG, SHORT))
        config["trace"] = {"path": given, "max_tokens": 40}
        assert moesim.run(config, base_dir=repo_root / "configs")["cache"] == result["cache"]
        for block in (result, of_file):
            block.pop("inputs", None)
            block["config"] = dict(block["config"], trace=None)
        assert result == of_file
    with pytest.raises(TypeError, match=r"expected a moesim.Trace, got 'a.safetensors'"):
        moesim.run(CONFIG, trace="a.safetensors")


def test_the_byte_order_of_an_array_does_not_matter(moesim):
    logits = np.random.default_rng(4).normal(size=(3, 2, 8)).astype("float32")
    ids = np.arange(12).reshape(3, 2, 2) % 8
    weights = logits[:, :, :2].astype("float64") ** 2
    for kinds in (("f2", "u2", "f4"), ("f4", "i4", "f2"), ("f8", "i8", "f8")):
        for order in "<>":
            trace = moesim.Trace.from_numpy(
                logits.astype(order + kinds[0]),
                ids=ids.astype(order + kinds[1]),
                weights=weights.astype(order + kinds[2]),
                sequence=np.array([0, 0, 1], order + "i4"),
                gate="A",
                top_k=2,
            )
            half = [values.astype("f2" if kind == "f2" else "f4")
                    for values, kind in ((logits, kinds[0]), (weights, kinds[2]))]
            assert np.array_equal(trace.logits, half[0])
            assert np.array_equal(trace.ids, ids)
            assert np.array_equal(trace.weights, half[1])
            assert trace.sequence.tolist() == [0, 0, 1]
