"""The Python package: its numbers are the program's, its arrays are views, its names are typed."""

import ast
import csv
import inspect
import json

import numpy as np
import pytest

from package_cases import BUNDLED, CONFIG, SHORT, as_arguments

pytestmark = pytest.mark.usefixtures("in_the_checkout")

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
