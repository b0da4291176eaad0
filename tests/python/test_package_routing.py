"""Routing policies in Python: what they see, may answer and declare."""

import numpy as np
import pytest

from package_cases import BUNDLED, CONFIG, SHORT

pytestmark = pytest.mark.usefixtures("in_the_checkout")


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


def test_what_cannot_be_registered_is_refused(moesim):
    def native(visit, **parameters):
        return visit.native_ids

    class Policy:
        def route(self, visit):
            return visit.native_ids

    place = "register_routing: parameters: "
    other = "expected a name other than policy and k, got "
    instance = Policy()
    cases = [
        (moesim.UserError, "register_routing: expected a name, got an empty one", "", native, {}),
        (moesim.UserError, f"{place}{other}'policy'", "own", native, {"policy": 1}),
        (moesim.UserError, f"{place}{other}'k'", "own", native, {"k": 1}),
        (moesim.UserError, f"{place}/a: expected a finite number, got nan", "own", native,
         {"a": float("nan")}),
        (TypeError, f"{place}expected texts as keys, got 1", "own", native, {1: 2}),
        (TypeError, "register_routing: expected a text as name, got 3", 3, native, {}),
        (TypeError, f"expected the class of a routing policy, got an instance: {instance!r}", "own",
         instance, {}),
    ]
    for error, message, name, policy, parameters in cases:
        with pytest.raises(error) as raised:
            moesim.register_routing(name, policy, parameters=parameters)
        assert str(raised.value) == message
    assert not {"", "own"} & {policy["name"] for policy in moesim.policies("routing")}


def test_parameters_may_be_of_numpy(moesim):
    seen = []

    def native(visit, **parameters):
        seen.append(parameters)
        return visit.native_ids

    defaults = {"a": np.float32(0.5), "b": np.int64(3), "c": np.arange(2), "d": np.bool_(True)}
    moesim.register_routing("numpy_defaults", native, parameters=defaults)
    moesim.run(CONFIG, SHORT | {"/routing": {"policy": "numpy_defaults"}})
    assert seen[0] == {"a": 0.5, "b": 3, "c": [0, 1], "d": True}


def test_wrong_facts_of_a_policy_are_named(moesim):
    cases = [
        ("max_experts", 2**70, f"expected max_experts in [1, 64], got {2**70}"),
        ("looks_at_residency", "x", "expected looks_at_residency True or False, got 'x'"),
        ("needs_logits", 2, "expected needs_logits True or False, got 2"),
    ]
    for key, value, message in cases:
        policy = type("Facts", (), {key: value, "route": lambda self, visit: visit.native_ids})
        with pytest.raises(moesim.UserError) as error:
            moesim.run(CONFIG, SHORT, routing=type("Facts", (policy,), {"__init__": lambda s, c: None}))
        assert str(error.value) == f"routing Facts: {message}"
