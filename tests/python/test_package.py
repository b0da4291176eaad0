"""The Python package: its numbers are the program's, its arrays are views, its errors are lines."""

import ast
import csv
import inspect
import json
import struct
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

CONFIG = "configs/phone.json"
SHORT = {"/trace/max_tokens": 40}
BUNDLED = "traces/reference-moe-small.safetensors"


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch, repo_root):
    monkeypatch.chdir(repo_root)


def as_arguments(overrides):
    return [f"--set={pointer}={json.dumps(value)}" for pointer, value in overrides.items()]


RUNS = [
    {},
    {"/device": None, "/cache": {"capacity_mib": 2000, "eviction": {"policy": "belady"}}}
    | {"/routing": {"policy": "top_k"}},
    {"/execution/overlap": "projection", "/routing/policy": "max_rank"},
]


@pytest.mark.parametrize("overrides", RUNS)
def test_a_run_is_that_of_the_program_to_the_byte(moesim, run_sim, overrides):
    overrides = SHORT | overrides
    printed = run_sim("run", "--config", CONFIG, *as_arguments(overrides), "--json", "-")
    assert printed.returncode == 0, printed.stderr
    result = moesim.run(CONFIG, overrides)
    assert result.to_json() == printed.stdout
    assert result.json == json.loads(printed.stdout)
    assert dict(result) == result.json
    assert result["cache"]["hits"] > 0
    summary = run_sim("run", "--config", CONFIG, *as_arguments(overrides)).stdout
    assert result.summary() == str(result) == summary


def test_the_configuration_in_force_is_that_of_the_program(moesim, run_sim):
    printed = run_sim("run", "--config", CONFIG, "--print-config").stdout
    assert moesim.resolved_config(CONFIG) == json.loads(printed)


def test_a_dictionary_gives_what_its_file_gives(moesim, repo_root):
    with open(CONFIG, encoding="utf-8") as file:
        config = json.load(file)
    config["trace"]["max_tokens"] = np.int64(40)
    result = moesim.run(config, base_dir=repo_root / "configs")
    expected = dict(moesim.run(CONFIG, SHORT))
    # Which file it was is all that it cannot say.
    expected["inputs"] = [i for i in expected["inputs"] if i["path"] != CONFIG]
    assert dict(result) == expected


def test_overrides_are_a_dictionary_or_texts(moesim):
    overrides = {"/cache/capacity_experts": 12, "/routing/policy": "top_k"} | SHORT
    texts = ["/cache/capacity_experts=12", "/routing/policy=top_k", "/trace/max_tokens=40"]
    assert moesim.run(CONFIG, overrides).json == moesim.run(CONFIG, texts).json
    with pytest.raises(TypeError, match="got one text"):
        moesim.run(CONFIG, "/trace/max_tokens=40")


# --- tables ---


def test_the_columns_are_those_of_the_table(moesim, run_sim, tmp_path):
    table = tmp_path / "tokens.csv"
    run_sim("run", "--config", CONFIG, *as_arguments(SHORT), "--tokens-csv", table)
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = moesim.run(CONFIG, SHORT, tokens=True).tokens
    assert list(columns) == list(rows[0])
    for name, column in columns.items():
        assert column.tolist() == [float(row[name]) for row in rows], name


def test_without_sizes_there_is_no_column_of_bytes(moesim):
    config = {"trace": {"path": BUNDLED, "max_tokens": 40}, "cache": {"capacity_experts": 16}}
    result = moesim.run(config | {"device": None}, tokens=True)
    assert "read_bytes" not in result.tokens
    assert result.tokens["hits"].sum() == result["cache"]["hits"]


def test_columns_are_read_only_views_that_outlive_the_result(moesim):
    result = moesim.run(CONFIG, SHORT, tokens=True, selections=True)
    arrays = [*result.tokens.values(), *result.selections.values()]
    # A second look finds the same memory.
    again = [*result._outcome.columns().values(), *result._outcome.selections().values()]
    for array, other in zip(arrays, again, strict=True):
        assert np.shares_memory(array, other)
        assert array.base is not None and not array.flags.owndata
        assert not array.flags.writeable
    mean, walls = result["throughput"]["tpot_ms"]["mean"], result.tokens["wall_ms"]
    del result, arrays, again, array, other
    assert walls.mean() == pytest.approx(mean, rel=1e-12)


def test_tables_must_be_asked_for(moesim):
    result = moesim.run(CONFIG, SHORT)
    with pytest.raises(moesim.UserError, match=r"expected run\(..., tokens=True\)"):
        result.tokens["wall_ms"]
    with pytest.raises(moesim.UserError, match=r"expected run\(..., selections=True\)"):
        result.selections["ids"]


def test_selections_say_what_ran(moesim):
    trace = moesim.Trace.load(BUNDLED)
    result = moesim.run(CONFIG, SHORT | {"/routing": {"policy": "top_k"}}, selections=True)
    ids, hits = result.selections["ids"], result.selections["hits"]
    rows = np.flatnonzero(trace.phase[:40] == 1) if trace.phase is not None else np.arange(40)
    logits = trace.logits[rows]
    best = np.argsort(-logits.astype("float32"), axis=-1, kind="stable")[..., : ids.shape[-1]]
    assert np.array_equal(ids, best)
    assert hits.sum() == result["cache"]["hits"]
    # The gate of the recording does not renormalise: probabilities of all experts.
    of_all = np.exp(logits.astype("float64"))
    of_all /= of_all.sum(axis=-1, keepdims=True)
    expected = np.take_along_axis(of_all, best, axis=-1)
    assert np.allclose(result.selections["weights"], expected, rtol=1e-5)


def test_selections_of_several_sequences_in_lock_step(moesim):
    logits = np.random.default_rng(3).normal(size=(12, 2, 8)).astype("float32")
    trace = moesim.Trace.from_numpy(logits, gate="A", top_k=2, sequence=np.arange(12) // 6)
    config = {"trace": trace, "device": None, "cache": {"capacity_experts": 8}}
    result = moesim.run(
        config | {"execution": {"batch": 2}}, tokens=True, selections=True
    )
    best = np.argsort(-logits, axis=-1)[..., :2]
    assert np.array_equal(result.selections["ids"], best[result.tokens["token"]])


def test_unused_places_of_a_selection_are_marked(moesim):
    one = moesim.run(CONFIG, SHORT, routing=lambda visit: visit.native_ids[:1], selections=True)
    ids = one.selections["ids"]
    assert (ids[..., 1:] == 65535).all() and (ids[..., 0] < 65535).all()
    assert not one.selections["hits"][..., 1:].any()


# --- traces ---


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


# --- routing in Python ---


def test_the_native_selection_from_python_is_top_k(moesim):
    native = moesim.run(CONFIG, SHORT | {"/routing": {"policy": "top_k"}}, tokens=True)
    ours = moesim.run(CONFIG, SHORT, routing=lambda visit: visit.native_ids, tokens=True)
    assert ours["config"]["routing"] == {"policy": "python", "name": "<lambda>", "k": 8}
    for key in native.tokens:
        assert np.array_equal(native.tokens[key], ours.tokens[key])
    different = {key for key in native if native[key] != ours[key]}
    assert different == {"config"}


def test_cache_prior_can_be_written_in_python(moesim):
    class CachePrior:
        def __init__(self, context, strength):
            self.sums = np.zeros(context.layers)
            self.visits = np.zeros(context.layers)
            self.strength = strength

        def route(self, visit):
            logits = visit.logits.astype("float64")
            self.sums[visit.layer] += logits.max() - logits.min()
            self.visits[visit.layer] += 1
            bonus = self.strength * self.sums[visit.layer] / self.visits[visit.layer]
            preferred = visit.resident.copy()
            preferred[visit.native_ids[:2]] = True
            order = np.argsort(-(logits + bonus * preferred), kind="stable")
            return order[: visit.k]

    moesim.register_routing("our_prior", CachePrior, parameters={"strength": 0.5})
    for strength in (0.05, 0.3):
        mine = {"policy": "our_prior", "strength": strength}
        theirs = {"policy": "cache_prior", "lambda": strength, "keep_top": 2}
        ours = moesim.run(CONFIG, SHORT | {"/routing": mine})
        built_in = moesim.run(CONFIG, SHORT | {"/routing": theirs})
        assert ours["cache"] == built_in["cache"]
        assert ours["routing"]["agreement"] == built_in["routing"]["agreement"]
    default = moesim.resolved_config(CONFIG, {"/routing": {"policy": "our_prior"}})["routing"]
    assert default == {"policy": "our_prior", "strength": 0.5, "k": 8}


def test_a_name_can_be_given_again_but_not_one_of_the_program(moesim):
    moesim.register_routing("again", lambda visit: visit.native_ids[:1])
    moesim.register_routing("again", lambda visit: visit.native_ids[:2], description="two of them")
    result = moesim.run(CONFIG, SHORT | {"/routing": {"policy": "again"}})
    assert result["routing"]["experts_per_token_layer"] == 2
    listed = {policy["name"]: policy for policy in moesim.policies("routing")}
    assert listed["again"]["description"] == "two of them"
    for name in ("top_k", "python"):
        with pytest.raises(moesim.UserError, match=f"a name of its own, got {name}"):
            moesim.register_routing(name, lambda visit: visit.native_ids)
    with pytest.raises(TypeError, match="expected a function or a class"):
        moesim.register_routing("number", 3)
    with pytest.raises(TypeError, match=r"needs a method route\(visit\)"):
        moesim.register_routing("empty", type("Empty", (), {}))


def test_a_visit_shows_what_the_router_knows(moesim):
    trace = moesim.Trace.load(BUNDLED)
    seen = []

    def look(visit):
        assert visit.logits.dtype == np.float32 and not visit.logits.flags.writeable
        assert np.array_equal(visit.logits, trace.logits[visit.token, visit.layer])
        assert not visit.resident.flags.writeable
        assert (visit.k, visit.experts) == (len(visit.native_ids), len(visit.logits))
        assert visit.probabilities.sum() == pytest.approx(1)
        assert np.argmax(visit.ranking) == visit.native_ids[0]
        of_native = visit.probabilities[visit.native_ids]
        assert visit.native_weights == pytest.approx(of_native)  # the gate is B
        assert not visit.in_flight.any()
        residents = np.flatnonzero(visit.resident)
        if len(residents):
            assert np.isfinite(visit.eviction_score(residents[0]))
        seen.append((visit.token, visit.layer, visit.sequence, visit.gate, len(residents)))
        with pytest.raises(ValueError, match="expert -1 is not resident"):
            visit.eviction_score(-1)
        return visit.native_ids

    moesim.run(CONFIG, SHORT, routing=look)
    tokens, layers, *_ = zip(*seen, strict=True)
    assert list(layers[: trace.shape[1]]) == list(range(trace.shape[1]))
    assert max(count for *_, count in seen) == 16
    assert len(seen) == len(set(tokens)) * trace.shape[1]


def test_a_visit_ends_with_its_policy(moesim):
    kept = []

    def keep(visit):
        kept.append((visit, visit.logits))
        return visit.native_ids

    moesim.run(CONFIG, SHORT, routing=keep)
    with pytest.raises(RuntimeError, match="a visit is over when the policy has returned"):
        _ = kept[0][0].token
    assert np.isfinite(kept[0][1]).all()


def test_weights_of_the_policy_are_its_own(moesim):
    def own(visit):
        return visit.native_ids, np.full(visit.k, 1 / visit.k)

    result = moesim.run(CONFIG, SHORT, routing=own, selections=True)
    assert (result.selections["weights"] == 1 / 8).all()
    assert any(warning.startswith("open loop") for warning in result.warnings)
    assert not any(
        warning.startswith("open loop")
        for warning in moesim.run(CONFIG, SHORT, routing=lambda v: v.native_ids).warnings
    )


def test_a_pair_of_ids_is_no_weights(moesim):
    def pair(visit):
        return int(visit.native_ids[0]), int(visit.native_ids[1])

    result = moesim.run(CONFIG, SHORT, routing=pair)
    assert result["routing"]["experts_per_token_layer"] == 2


def test_more_experts_than_k_must_be_declared(moesim):
    def many(visit):
        return np.argsort(-visit.logits)[:12]

    message = r"routing many: token \d+, layer 0: expected 1 to 8 experts \(max_experts\), got 12"
    with pytest.raises(moesim.UserError, match=message):
        moesim.run(CONFIG, SHORT, routing=many)
    many.max_experts = 12
    result = moesim.run(CONFIG, SHORT, routing=many)
    assert result["routing"]["experts_per_token_layer"] == 12
    for wrong in (0, 65, "all", True):
        many.max_experts = wrong
        with pytest.raises(moesim.UserError, match=r"expected max_experts in \[1, 64\], got"):
            moesim.run(CONFIG, SHORT, routing=many)


def test_a_policy_that_does_not_look_has_a_future(moesim):
    def native(visit):
        return visit.native_ids

    belady = SHORT | {"/cache/eviction": {"policy": "belady"}}
    with pytest.raises(moesim.UserError, match="belady needs to know the future"):
        moesim.run(CONFIG, belady, routing=native)
    native.looks_at_residency = False
    ours = moesim.run(CONFIG, belady, routing=native)
    top_k = moesim.run(CONFIG, belady | {"/routing": {"policy": "top_k"}})
    assert ours["cache"] == top_k["cache"]

    def peeks(visit):
        return visit.native_ids[visit.resident[visit.native_ids]]

    peeks.looks_at_residency = False
    with pytest.raises(moesim.UserError, match="expected looks_at_residency = True, got False"):
        moesim.run(CONFIG, SHORT, routing=peeks)


def test_every_sequence_begins(moesim):
    begun = []

    class Listens:
        def __init__(self, context):
            self.shape = (context.tokens, context.layers, context.experts)
            assert (self.shape, context.k, context.gate) == ((12, 2, 8), 2, "A")

        def begin_sequence(self, sequence):
            begun.append(sequence)

        def route(self, visit):
            return visit.native_ids

    logits = np.random.default_rng(3).normal(size=(12, 2, 8)).astype("float32")
    trace = moesim.Trace.from_numpy(logits, gate="A", top_k=2, sequence=np.arange(12) // 4)
    moesim.run({"trace": trace, "device": None, "cache": {"capacity_experts": 4}}, routing=Listens)
    assert begun == [0, 1, 2]


def compact(moesim, **more):
    ids = np.array([[[0, 3]], [[2, 1]]], "uint8")
    trace = moesim.Trace.from_numpy(ids=ids, experts=4, top_k=2, gate="A", **more)
    return {"trace": trace, "device": None, "cache": {"capacity_experts": 4}}


def test_on_a_trace_of_ids_only_what_was_recorded_can_run(moesim):
    def best(visit):
        assert visit.logits is None and visit.ranking is None and visit.probabilities is None
        return visit.native_ids[:1]

    with pytest.raises(moesim.UserError, match="best needs|python needs the tensor router_logits"):
        moesim.run(compact(moesim), routing=best)
    best.needs_logits = False
    result = moesim.run(compact(moesim), routing=best)
    assert result["routing"]["experts_per_token_layer"] == 1
    weighed = compact(moesim, weights=np.array([[[0.75, 0.25]], [[0.5, 0.5]]], "float32"))
    result = moesim.run(weighed, routing=best, selections=True)
    assert result.selections["weights"].ravel().tolist()[0::2] == [1, 1]

    def other(visit):
        return [1 if visit.token == 0 else 2]

    other.needs_logits = False
    message = "routing other: token 0, layer 0: expected experts that the trace recorded here"
    with pytest.raises(moesim.UserError, match=message):
        moesim.run(compact(moesim), routing=other)


BAD_ANSWERS = [
    (lambda ids: None, "expected a row of expert ids, or (ids, weights), got None"),
    (lambda ids: 3, "expected a row of expert ids, or (ids, weights), got 3"),
    (lambda ids: [], "expected 1 to 8 experts (max_experts), got 0"),
    (lambda ids: [0.5], "expected a row of expert ids, or (ids, weights), got [0.5]"),
    (lambda ids: [[1, 2]], "expected a row of expert ids, or (ids, weights), got [[1, 2]]"),
    (lambda ids: np.array([True]), "expected a row of expert ids, or (ids, weights), got array([ True])"),
    (lambda ids: [1, 2, 1], "expected distinct expert ids, got 1 twice"),
    (lambda ids: [64], "expected expert ids in [0, 63], got 64"),
    (lambda ids: [-1], "expected expert ids in [0, 63], got -1"),
    (lambda ids: ([1, 2], [0.5]), "expected 2 weights, one for each expert, got 1"),
    (lambda ids: ([1], ["a"]), "expected a row of weights, got ['a']"),
    (lambda ids: ([1], [-0.5]), "expected finite weights >= 0, got -0.5"),
    (lambda ids: ([1], [float("nan")]), "expected finite weights >= 0, got nan"),
]


@pytest.mark.parametrize(("answer", "message"), BAD_ANSWERS)
def test_a_wrong_answer_is_named(moesim, answer, message):
    def bad(visit):
        return answer(visit.native_ids) if visit.layer == 3 else visit.native_ids

    with pytest.raises(moesim.UserError) as error:
        moesim.run(CONFIG, SHORT, routing=bad)
    first = moesim.run(CONFIG, SHORT, tokens=True).tokens["token"][0]
    assert str(error.value) == f"routing bad: token {first}, layer 3: {message}"


def test_what_a_policy_raises_arrives_as_it_is(moesim):
    class OwnError(Exception):
        pass

    raised = OwnError("layer 2")

    def fails(visit):
        if visit.layer == 2:
            raise raised
        return visit.native_ids

    with pytest.raises(OwnError) as error:
        moesim.run(CONFIG, SHORT, routing=fails)
    assert error.value is raised

    class Unready:
        def __init__(self, context):
            raise raised

        def route(self, visit):
            return visit.native_ids

    with pytest.raises(OwnError):
        moesim.run(CONFIG, SHORT, routing=Unready)
    assert moesim.run(CONFIG, SHORT, routing=lambda visit: visit.native_ids)["cache"]["hits"] > 0


def test_a_run_inside_a_policy(moesim):
    """Each of the two has its own policy; what would have to wait for the run is refused."""
    inner = []

    def outer(visit):
        if not inner:
            inner.append(moesim.run(CONFIG, SHORT, routing=lambda v: v.native_ids[:1]))
            with pytest.raises(RuntimeError, match="cannot be registered inside a run"):
                moesim.register_routing("too_late", lambda visit: visit.native_ids)
        return visit.native_ids[:2]

    result = moesim.run(CONFIG, SHORT, routing=outer)
    assert inner[0]["routing"]["experts_per_token_layer"] == 1
    assert result["routing"]["experts_per_token_layer"] == 2


def test_the_name_of_given_policies_needs_one(moesim):
    moesim.run(CONFIG, SHORT, routing=lambda visit: visit.native_ids)
    with pytest.raises(moesim.UserError, match=r"stands for moesim.run\(..., routing=\)"):
        moesim.run(CONFIG, {"/routing": {"policy": "python", "name": "mine"}})


# --- threads ---


def test_other_threads_run_meanwhile(moesim):
    """A thread that is never asked to hand over its lock does so in a run, or the main thread would
    see the last run end first."""
    seen, runs = threading.Event(), []

    def work():
        while not seen.is_set() and len(runs) < 500:
            runs.append(moesim.run(CONFIG, SHORT)["cache"]["hits"])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        seen.set()
    finally:
        sys.setswitchinterval(interval)
    thread.join()
    assert len(runs) < 500


def test_runs_in_threads_give_what_they_give_alone(moesim):
    trace = moesim.Trace.load(BUNDLED)
    overrides = [SHORT | {"/cache/capacity_experts": capacity} for capacity in (8, 12, 16, 24)]

    def one(over):
        policy = None if over["/cache/capacity_experts"] % 3 else (lambda visit: visit.native_ids)
        return moesim.run(CONFIG, over, trace=trace, routing=policy).json

    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(one, overrides * 2))
    assert parallel == [one(over) for over in overrides] * 2


def test_a_policy_may_be_registered_while_another_thread_runs(moesim):
    with ThreadPoolExecutor(2) as pool:
        run = pool.submit(moesim.run, CONFIG, {})
        for number in range(20):
            moesim.register_routing(f"numbered_{number}", lambda visit: visit.native_ids)
        assert run.result()["cache"]["hits"] > 0
    names = {policy["name"] for policy in moesim.policies("routing")}
    assert {f"numbered_{number}" for number in range(20)} <= names


# --- errors ---


MISTAKES = [
    {"/cache/capacity_experts": -5},
    {"/cache/capacity_mibs": 5},
    {"/prefetch/policy": "orakel"},
    {"/trace/path": "none.safetensors"},
    {"/device": "oneplus-16"},
    {"/routing": {"policy": "cache_prior", "lambda": 2}},
    {"/description": "two\nlines", "/trace": 3},
]


@pytest.mark.parametrize("overrides", MISTAKES)
def test_a_mistake_has_the_line_of_the_program(moesim, run_sim, overrides):
    printed = run_sim("run", "--config", CONFIG, *as_arguments(overrides))
    assert printed.returncode == 2
    with pytest.raises(moesim.UserError) as error:
        moesim.run(CONFIG, overrides)
    assert f"sim: error: {error.value}\n" == printed.stderr
    assert isinstance(error.value, ValueError)


def test_mistakes_in_a_dictionary_are_of_config(moesim):
    with pytest.raises(moesim.UserError, match="^config: /trace: missing key"):
        moesim.run({})
    with pytest.raises(TypeError, match="a configuration cannot hold a set"):
        moesim.run({"trace": {1, 2}})
    with pytest.raises(TypeError, match="base_dir is for a dictionary"):
        moesim.run(CONFIG, base_dir=".")
    with pytest.raises(moesim.UserError, match="^none.json: expected a file"):
        moesim.run("none.json")
    with pytest.raises(moesim.UserError, match="^none.safetensors: "):
        moesim.Trace.load("none.safetensors")
    with pytest.raises(moesim.UserError, match="^no/folder/a: cannot be written"):
        moesim.Trace.from_numpy(LOGITS, top_k=1).save("no/folder/a")


def test_a_defect_is_a_runtime_error(moesim):
    with pytest.raises(RuntimeError, match="^defect of the program: a trace has no tensors of type"):
        moesim._moesim.HeldTrace.from_tensors([("router_logits", "F99", LOGITS)], {}, "a")


# --- lists and stubs ---


def test_lists_are_those_of_the_program(moesim, run_sim):
    for kind in ("eviction", "prefetch", "routing"):
        listed = json.loads(run_sim("list", kind, "--json").stdout)
        for policy in listed:
            policy.pop("neutral")
        ours = [policy for policy in moesim.policies(kind) if policy["source"] != "Python"]
        assert ours == listed
    with pytest.raises(moesim.UserError, match='unknown value "rooting"; known: .*nearest: routing'):
        moesim.policies("rooting")
    for kind, names in (("models", moesim.models()), ("devices", moesim.devices())):
        listed = json.loads(run_sim("list", kind, "--json").stdout)
        assert names == [thing["name"] for thing in listed]


def public(names):
    return {name for name in names if not name.startswith("_")}


def parameters_of(node):
    """Names of the parameters of a function of the stubs, in order."""
    arguments = node.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


def test_the_stubs_are_the_package(moesim, repo_root):
    stubs = ast.parse((repo_root / "src/python/moesim/__init__.pyi").read_text(encoding="utf-8"))
    listed = next(n for n in stubs.body if isinstance(n, ast.Assign) and n.targets[0].id == "__all__")
    assert ast.literal_eval(listed.value) == moesim.__all__
    declared = {n.name: n for n in stubs.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
    variables = {n.target.id for n in stubs.body if isinstance(n, ast.AnnAssign)}
    assert public(declared) | variables == set(moesim.__all__)
    assert (moesim.version, type(moesim.commit)) == (moesim.run(CONFIG, SHORT)["program"]["version"], str)
    for name in public(declared):
        node, real = declared[name], getattr(moesim, name)
        if isinstance(node, ast.FunctionDef):
            assert parameters_of(node) == list(inspect.signature(real).parameters), name
            continue
        members = {m.name: m for m in node.body if isinstance(m, ast.FunctionDef)}
        assert public(members) == public(vars(real)) - {"args"}, name
        for member, stub in members.items():
            is_property = any(getattr(d, "id", "") == "property" for d in stub.decorator_list)
            assert is_property == isinstance(vars(real)[member], property), f"{name}.{member}"
            function = vars(real)[member]
            function = getattr(function, "__func__", function)
            if not is_property and inspect.isfunction(function):
                assert parameters_of(stub) == list(inspect.signature(function).parameters), member


def test_python_knows_that_the_package_is_typed(package_path):
    assert (package_path / "moesim/py.typed").is_file()
    assert (package_path / "moesim/__init__.pyi").is_file()
