"""Routing policies in Python: from a function or a class to what the engine drives."""

import inspect
from types import SimpleNamespace

import numpy as np

from moesim import _moesim
from moesim._plain import plain


def name_of(policy):
    """What a policy is called where it has no other name."""
    return getattr(policy, "__name__", None) or type(policy).__name__


def maker(policy, declared, name):
    """make(context, parameters) of a policy: a class gives a new instance for every pass over the
    trace, anything else is called as it is. `declared` holds what the attributes of the policy
    (max_experts, looks_at_residency, needs_logits) do not say; None: not declared. `name` is for
    messages."""

    def fact(of, key, otherwise):
        given = declared.get(key)
        return getattr(of, key, otherwise) if given is None else given

    def flag(of, key):
        value = fact(of, key, True)
        if not isinstance(value, (bool, np.bool_)):
            raise _moesim.UserError(f"routing {name}: expected {key} True or False, got {value!r}")
        return bool(value)

    def make(context, parameters):
        if inspect.isclass(policy):
            policy_now = policy(context, **parameters)
            route = policy_now.route
        else:
            policy_now = policy
            route = policy
            if parameters:

                def route(visit):
                    return policy(visit, **parameters)

        return SimpleNamespace(
            route=route,
            begin_sequence=getattr(policy_now, "begin_sequence", None),
            max_experts=fact(policy_now, "max_experts", None),
            looks_at_residency=flag(policy_now, "looks_at_residency"),
            needs_logits=flag(policy_now, "needs_logits"),
        )

    return make


def check(policy):
    """Refuses what can be no policy."""
    if inspect.isclass(policy) and not callable(getattr(policy, "route", None)):
        raise TypeError(f"a routing policy that is a class needs a method route(visit): {policy!r}")
    if not callable(policy) and callable(getattr(policy, "route", None)):
        raise TypeError(f"expected the class of a routing policy, got an instance: {policy!r}")
    if not callable(policy):
        raise TypeError(f"expected a function or a class as a routing policy, got {policy!r}")


def declaration(policy):
    """What a run takes as `routing=`."""
    check(policy)
    name = name_of(policy)
    return _moesim.RoutingDeclaration(name, maker(policy, {}, name))


def _plain_parameters(parameters):
    """Names and defaults as JSON has them; an error for what a configuration cannot name."""
    place = "register_routing: parameters: "
    values = plain(dict(parameters or {}), place, "a parameter of a policy")
    for key in values:
        if key in ("", "policy", "k"):
            raise _moesim.UserError(f"{place}expected a name other than policy and k, got {key!r}")
    return values


def register_routing(
    name,
    policy,
    *,
    description="",
    parameters=None,
    max_experts=None,
    looks_at_residency=None,
    needs_logits=None,
):
    """Makes `policy` known as `name`: a configuration may say {"routing": {"policy": name, ...}}.

    `policy` is a function of a Visit or a class whose instances have route(visit). It returns the
    ids of the experts that run, or (ids, weights). `parameters` are names with defaults: keys of
    the configuration, handed to the function or to the class as keyword arguments. The others say
    what attributes of the policy may say as well: how many experts it returns at most (default: k),
    whether it looks at the cache (True) and whether it needs logits (True).
    Registering a name again replaces the policy. Raises UserError for a name of the program's own.
    """
    check(policy)
    if not isinstance(name, str):
        raise TypeError(f"register_routing: expected a text as name, got {name!r}")
    declared = {
        "max_experts": max_experts,
        "looks_at_residency": looks_at_residency,
        "needs_logits": needs_logits,
    }
    text = description or (inspect.getdoc(policy) or "a routing policy in Python").split("\n")[0]
    make = maker(policy, declared, name)
    _moesim.register_routing(name, make, text, _plain_parameters(parameters))
