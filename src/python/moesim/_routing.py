"""Routing policies in Python: from a function or a class to what the engine drives."""

import inspect
from types import SimpleNamespace

from moesim import _moesim


def name_of(policy):
    """What a policy is called where it has no other name."""
    return getattr(policy, "__name__", None) or type(policy).__name__


def maker(policy, declared):
    """make(context, parameters) of a policy: a class gives a new instance for every pass over the
    trace, anything else is called as it is. `declared` holds what the attributes of the policy
    (max_experts, looks_at_residency, needs_logits) do not say; None: not declared."""

    def fact(of, key, otherwise):
        given = declared.get(key)
        return getattr(of, key, otherwise) if given is None else given

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
            looks_at_residency=fact(policy_now, "looks_at_residency", True),
            needs_logits=fact(policy_now, "needs_logits", True),
        )

    return make


def check(policy):
    """Refuses what can be no policy."""
    if inspect.isclass(policy) and not callable(getattr(policy, "route", None)):
        raise TypeError(f"a routing policy that is a class needs a method route(visit): {policy!r}")
    if not callable(policy):
        raise TypeError(f"expected a function or a class as a routing policy, got {policy!r}")


def declaration(policy):
    """What a run takes as `routing=`."""
    check(policy)
    return _moesim.RoutingDeclaration(name_of(policy), maker(policy, {}))


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
    declared = {
        "max_experts": max_experts,
        "looks_at_residency": looks_at_residency,
        "needs_logits": needs_logits,
    }
    text = description or (inspect.getdoc(policy) or "a routing policy in Python").split("\n")[0]
    _moesim.register_routing(name, maker(policy, declared), text, dict(parameters or {}))
