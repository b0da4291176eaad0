#!/usr/bin/python3
"""Writes docs/policies.md from what the program says of its policies.

    scripts/make_policy_docs.py            write docs/policies.md
    scripts/make_policy_docs.py --check    only say whether it is stale

The program is $MOESIM_SIM, or else that of the release build.
"""

import argparse
import json
import os
import pathlib
import re
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/policies.md"
COMMAND = "scripts/make_policy_docs.py"

KINDS = [
    (
        "routing",
        "Routing",
        "Which experts serve one decoded token at one layer (`routing.policy`). Prefill is always "
        "routed by plain top-k.\nAt its neutral setting a policy runs exactly what `top_k` runs.",
    ),
    (
        "eviction",
        "Eviction",
        "Which resident expert leaves the cache next (`cache.eviction.policy`). What the cache does "
        "around that is in [cache.md](cache.md).",
    ),
    (
        "prefetch",
        "Prefetch",
        "Which experts are read before they are asked for (`prefetch.policy`). A prefetch needs a "
        "device.",
    ),
]

INTRODUCTION = f"""\
# Policies

<!-- Written by {COMMAND} from `sim list KIND --json`: change the policies, not this page. -->

Every policy that a configuration can name, as the program describes it; `sim list routing` prints the same. This page is
written by `{COMMAND}`, and a test fails when it is stale.

In ranges k is the number of experts that the model's own routing takes, E that of the experts of a layer, L that of the MoE
layers. A default of `null` stands for "not given", and the text says what that means. A source of "own" marks what this project
chose itself; "the reference" means the definitions and worked numbers behind the fixtures of
[tests/golden](../tests/golden/README.md). What policies come to on one trace is in [policy_study.md](policy_study.md), how to
write another in [adding_a_policy.md](adding_a_policy.md).
"""

SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")


def escaped(text):
    """Plain text as Markdown that shows it letter for letter, also in the cell of a table."""
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text):
    """A code span, also in the cell of a table: there even a quoted bar would end the cell."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    padding = " " if longest else ""
    return f"{fence}{padding}{text}{padding}{fence}".replace("|", r"\|")


def shown_range(text):
    """Intervals and lists of names as code, words as they are."""
    is_code = re.fullmatch(r"[\[(][^,]+, [^,]+[\])]|[^ |]+(\|[^ |]+)+", text)
    return code(text) if is_code else escaped(text)


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def neutral(policy):
    if policy["neutral"] is None:
        return ""
    text = policy["neutral"]["text"]
    return escaped(text) if text == "any" else code(text)


def overview(policies):
    """One row a policy; the neutral setting only where some policy of the kind has one."""
    has_neutral = any(policy["neutral"] is not None for policy in policies)
    rows = []
    for policy in policies:
        name = code(policy["name"])
        if policy["parameters"]:
            name = f"[{name}](#{policy['name']})"
        row = [name, escaped(policy["description"]), escaped(policy["source"])]
        rows.append(row + [neutral(policy)] if has_neutral else row)
    header = ["policy", "what it does", "source"]
    return table(header + ["neutral setting"] if has_neutral else header, rows)


def parameters(policy):
    rows = [
        [
            code(parameter["name"]),
            escaped(parameter["description"]),
            escaped(parameter["type"]),
            shown_range(parameter["range"]),
            code(json.dumps(parameter["default"], ensure_ascii=False)),
            escaped(parameter["source"]),
        ]
        for parameter in policy["parameters"]
    ]
    header = ["parameter", "meaning", "type", "range", "default", "source"]
    return f"### {code(policy['name'])}\n\n{table(header, rows)}"


def page(lists):
    """The whole page; `lists` holds for each kind what `sim list KIND --json` says."""
    parts = [INTRODUCTION]
    for kind, title, text in KINDS:
        parts += [f"## {title}\n\n{text}\n", overview(lists[kind])]
        parts += [parameters(policy) for policy in lists[kind] if policy["parameters"]]
    return "\n".join(parts)


def read_lists(sim):
    lists = {}
    for kind, _, _ in KINDS:
        done = subprocess.run([sim, "list", kind, "--json"], stdout=subprocess.PIPE, check=True)
        lists[kind] = json.loads(done.stdout)
    return lists


def main():
    parser = argparse.ArgumentParser(description="writes docs/policies.md from sim list")
    parser.add_argument("--check", action="store_true", help="only say whether the page is stale")
    arguments = parser.parse_args()
    sim = os.environ.get("MOESIM_SIM") or REPOSITORY / "build/release/bin/sim"
    text = page(read_lists(sim))
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
        sys.exit(f"{PAGE.relative_to(REPOSITORY)} is stale; run {COMMAND}")


if __name__ == "__main__":
    main()
