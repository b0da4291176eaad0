"""What goes wrong in the Python package, and threads."""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from package_cases import BUNDLED, CONFIG, SHORT, as_arguments

pytestmark = pytest.mark.usefixtures("in_the_checkout")

LOGITS = np.zeros((2, 1, 4), "float32")


def compact(moesim, **more):
    ids = np.array([[[0, 3]], [[2, 1]]], "uint8")
    trace = moesim.Trace.from_numpy(ids=ids, experts=4, top_k=2, gate="A", **more)
    return {"trace": trace, "device": None, "cache": {"capacity_experts": 4}}


def test_on_a_trace_of_ids_only_what_was_recorded_can_run(moesim):
    def best(visit):
        assert visit.logits is None and visit.ranking is None and visit.probabilities is None
        return visit.native_ids[:1]

    with pytest.raises(moesim.UserError, match="python needs the tensor router_logits"):
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


def test_an_override_that_an_argument_would_hide_is_refused(moesim):
    trace = moesim.Trace.load(BUNDLED)
    message = "^expected one of trace= and the override {}, got both$"
    for config in (CONFIG, {"trace": trace}):
        with pytest.raises(moesim.UserError, match=message.format("/trace/path")):
            moesim.run(config, ["/trace/path=none"], trace=trace)
        with pytest.raises(moesim.UserError, match=message.format("/trace")):
            moesim.run(config, {"/trace": {"path": BUNDLED}}, trace=trace)
    with pytest.raises(moesim.UserError, match=message.format("/trace/path")):
        moesim.resolved_config(CONFIG, {"/trace/path": BUNDLED}, trace=trace)

    def native(visit):
        return visit.native_ids

    for pointer, value in (("/routing/policy", "top_k"), ("/routing", {"policy": "top_k", "k": 2})):
        with pytest.raises(moesim.UserError) as error:
            moesim.run(CONFIG, {pointer: value}, routing=native)
        expected = f"expected one of routing= and the override {pointer}, got both"
        assert str(error.value) == expected
    for overrides in ({"/routing/k": 2}, {"/routing": {"k": 2}}):
        result = moesim.run(CONFIG, SHORT | overrides, trace=trace, routing=native)
        assert result["routing"]["experts_per_token_layer"] == 2
    assert moesim.run(CONFIG, {"/trace": {"max_tokens": 40}}, trace=trace)["cache"]["hits"] > 0


NAN = float("nan")


def test_mistakes_before_the_run_are_named(moesim):
    user, kind = moesim.UserError, TypeError
    cases = [
        (user, "overrides: /cache/capacity_fraction: expected a finite number, got nan", CONFIG,
         {"/cache/capacity_fraction": NAN}),
        (user, "config: /cache/a/1: expected a finite number, got inf",
         {"cache": {"a": [1, float("inf")]}}, {}),
        (kind, "config: /cache: expected texts as keys, got 1", {"cache": {1: 2}}, {}),
        (kind, "expected overrides as texts /POINTER=VALUE, got 3", CONFIG, [3]),
        (user, "config: expected a path, got an empty one", "", {}),
    ]
    for error, message, config, overrides in cases:
        with pytest.raises(error) as raised:
            moesim.run(config, overrides)
        assert str(raised.value) == message


def test_arrays_that_are_none_are_refused(moesim):
    message = "Trace.from_numpy: {}: expected an array of numbers, got "
    for name in ("logits", "ids", "selection_bias"):
        tensor = {"logits": "router_logits", "ids": "topk_ids"}.get(name, name)
        for values in ([[[1, 2], [3]]], [["a"]]):
            for bfloat16 in (False, True):
                with pytest.raises(moesim.UserError, match=message.format(tensor)):
                    moesim.Trace.from_numpy(**{name: values}, top_k=1, bfloat16=bfloat16)


def test_a_name_can_be_run_as_soon_as_it_is_known(moesim):
    names = [f"early_{number}" for number in range(60)]

    def first_run(name):
        while True:
            try:
                return moesim.run(CONFIG, SHORT | {"/routing": {"policy": name}})["cache"]["hits"]
            except moesim.UserError as error:
                assert name in str(error)

    with ThreadPoolExecutor(6) as pool:
        for name in names:
            runs = [pool.submit(first_run, name) for _ in range(6)]
            moesim.register_routing(name, lambda visit: visit.native_ids)
            assert min(run.result() for run in runs) > 0


def test_a_refused_registration_leaves_the_policy(moesim):
    moesim.register_routing("kept", lambda visit: visit.native_ids[:1])

    def outer(visit):
        with pytest.raises(RuntimeError, match="cannot be registered inside a run"):
            moesim.register_routing("kept", lambda visit: visit.native_ids)
        return visit.native_ids

    moesim.run(CONFIG, SHORT, routing=outer)
    result = moesim.run(CONFIG, SHORT | {"/routing": {"policy": "kept"}})
    assert result["routing"]["experts_per_token_layer"] == 1
