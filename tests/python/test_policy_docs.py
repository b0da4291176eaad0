"""What `sim list` says of the policies, and the page that is written from it."""

import json
import re
import subprocess
import sys

import pytest

import make_policy_docs

KINDS = ["routing", "eviction", "prefetch"]


@pytest.fixture(scope="module")
def lists(sim):
    return make_policy_docs.read_lists(sim)


def test_the_page_is_not_stale(lists):
    written = make_policy_docs.PAGE.read_text(encoding="utf-8")
    assert written == make_policy_docs.page(lists), (
        f"docs/policies.md is stale; run {make_policy_docs.COMMAND}"
    )


def test_every_policy_and_parameter_is_described_whole(lists):
    for kind in KINDS:
        assert lists[kind]
        for policy in lists[kind]:
            assert set(policy) == {"name", "description", "source", "neutral", "parameters"}
            assert policy["description"] and policy["source"], policy["name"]
            for parameter in policy["parameters"]:
                assert set(parameter) == {
                    "name", "description", "type", "default", "range", "source",
                }  # fmt: skip
                filled = {key: value for key, value in parameter.items() if key != "default"}
                assert all(filled.values()), (policy["name"], parameter)


def test_the_neutral_setting_is_an_example_and_a_text(lists):
    neutral = {policy["name"]: policy["neutral"] for policy in lists["routing"]}
    assert neutral["top_k"] == {"k": 8, "parameters": {}, "text": "any"}
    assert neutral["max_rank"] == {"k": 8, "parameters": {"M": 8}, "text": "M = k"}
    assert neutral["cache_prior"]["text"] == "lambda = 0"
    assert all(policy["neutral"] is None for policy in lists["eviction"])


# What the bundled trace lacks.
ABSENT_TENSORS = re.compile("router_input_l1|attention_received|next_layer_logits|selection_bias")


def test_a_policy_is_the_models_own_routing_at_its_neutral_setting(lists, run_sim):
    """From outside, on the bundled trace, whose k is that of the examples."""
    checked = 0
    for policy in lists["routing"]:
        if policy["neutral"] is None:
            continue
        setting = json.dumps({"policy": policy["name"], **policy["neutral"]["parameters"]})
        done = run_sim(
            "--config", "configs/phone.json", "--json", "-", "--set", "/device=null",
            "--set", "/trace/max_tokens=20", "--set", f"/routing={setting}",
        )  # fmt: skip
        if done.returncode == 2 and ABSENT_TENSORS.search(done.stderr):
            continue
        assert done.returncode == 0, done.stderr
        routing = json.loads(done.stdout)["routing"]
        assert (routing["agreement"], routing["experts_per_token_layer"]) == (1, 8), policy["name"]
        checked += 1
    assert checked >= 5


def test_the_text_shows_the_same(lists, run_sim):
    for kind in KINDS:
        text = run_sim("list", kind).stdout
        assert max(map(len, text.splitlines())) < 300
        for policy in lists[kind]:
            for part in [policy["name"], policy["description"], policy["source"]]:
                assert part in text
            for parameter in policy["parameters"]:
                for key in ["name", "description", "type", "range", "source"]:
                    assert parameter[key] in text
        assert text.count("neutral setting") == sum(p["neutral"] is not None for p in lists[kind])


def test_every_link_of_the_page_leads_to_a_heading(lists):
    text = make_policy_docs.page(lists)
    headings = re.findall(r"^### `(.*)`$", text, re.MULTILINE)
    assert len(headings) == len(set(headings)), "two kinds have a policy of one name"
    assert re.findall(r"\]\(#(.*?)\)", text) == headings


POLICY = {
    "name": "p",
    "description": "a|b *c* <d>\ne_f",
    "source": "own",
    "neutral": None,
    "parameters": [
        {
            "name": "x",
            "description": "one [two] `three`",
            "type": "string or array",
            "range": "a|b",
            "default": "q|`r",
            "source": r"C:\x",
        }
    ],
}


def test_markdown_in_a_description_is_shown_letter_for_letter():
    text = make_policy_docs.page({"routing": [POLICY], "eviction": [], "prefetch": []})
    assert r"| [`p`](#p) | a\|b \*c\* \<d\> e\_f | own |" in text
    assert (
        r"| `x` | one \[two\] \`three\` | string or array | `a\|b` | "
        r'`` "q\|`r" `` | C:\\x |' in text
    )


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("[0, 1]", "`[0, 1]`"),
        ("(0, 1]", "`(0, 1]`"),
        ("a|b|c", r"`a\|b\|c`"),
        ("per-rank median", "per-rank median"),
        ("[0, 1] in each layer", r"\[0, 1\] in each layer"),
    ],
)
def test_a_range_is_code_where_it_is_an_interval_or_a_list(given, shown):
    assert make_policy_docs.shown_range(given) == shown


def test_check_says_how_to_mend_a_stale_page(repo_root, sim, tmp_path, monkeypatch, capsys):
    page = tmp_path / "policies.md"
    page.write_text("old\n")
    monkeypatch.setattr(make_policy_docs, "PAGE", page)
    monkeypatch.setattr(make_policy_docs, "REPOSITORY", tmp_path)
    monkeypatch.setenv("MOESIM_SIM", str(sim))
    monkeypatch.setattr(sys, "argv", ["make_policy_docs.py", "--check"])
    with pytest.raises(SystemExit) as stop:
        make_policy_docs.main()
    assert str(stop.value) == "policies.md is stale; run scripts/make_policy_docs.py"
    assert page.read_text() == "old\n"
    monkeypatch.setattr(sys, "argv", ["make_policy_docs.py"])
    make_policy_docs.main()
    assert page.read_text() == (repo_root / "docs/policies.md").read_text()
    monkeypatch.setattr(sys, "argv", ["make_policy_docs.py", "--check"])
    make_policy_docs.main()


def test_the_script_runs_as_the_page_says(repo_root, sim):
    done = subprocess.run(
        [repo_root / make_policy_docs.COMMAND, "--check"],
        env={"MOESIM_SIM": str(sim), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


PAGE_WITH_EXAMPLES = """\
```cpp
// src/routing/one.cpp
int one;
```

```cpp
int two;  // no file of its own
```
"""


def run_extraction(repo_root, tmp_path, *names):
    page = tmp_path / "page.md"
    page.write_text(PAGE_WITH_EXAMPLES)
    script = repo_root / "tests/support/documented_policies.py"
    return subprocess.run(
        ["/usr/bin/python3", script, page, tmp_path / "out", *names],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_examples_of_a_page_become_files_that_name_their_place(repo_root, tmp_path):
    done = run_extraction(repo_root, tmp_path, "one")
    assert (done.returncode, done.stderr) == (0, "")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["one.cpp"]
    text = (tmp_path / "out/one.cpp").read_text()
    assert text == '#line 2 "docs/page.md"\n// src/routing/one.cpp\nint one;\n'


def test_an_example_that_the_build_does_not_know_is_an_error(repo_root, tmp_path):
    done = run_extraction(repo_root, tmp_path, "one", "three")
    assert done.returncode == 1
    assert done.stderr.endswith("expected the examples ['one', 'three'], found ['one']\n")
    assert not (tmp_path / "out").exists()
