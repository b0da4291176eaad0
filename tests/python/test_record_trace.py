"""scripts/record_trace.py: what a router computes is what stands in the trace, for each way of routing."""

import json
import os
import signal
import subprocess
import sys

import pytest

from conftest import REPOSITORY

torch = pytest.importorskip("torch", reason="needs Debian's python3-torch")
np = pytest.importorskip("numpy", reason="needs Debian's python3-numpy")

import record_routers  # noqa: E402
import small_moe  # noqa: E402
from recorded import PROMPT, SMALL, generate, record, refused  # noqa: E402, F401

SCRIPT = REPOSITORY / "scripts/record_trace.py"
def computed(model, generated):
    """[tokens, layers, experts]: the prompt's rows of the first call, then the last row of each call."""
    layers = []
    for i in range(small_moe.LAYERS):
        calls = model.computed(i)
        assert len(calls) == 1 + generated
        layers.append(torch.cat([calls[0], *(call[-1:] for call in calls[1:])]))
    return torch.stack(layers, 1).float().numpy()


# --- logits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["linear", "batched", "selecting", "telling", "nested"])
def test_logits_are_those_that_the_routers_computed(factory, record):
    metadata, tensors, model = record(factory, *generate())
    assert np.array_equal(tensors["router_logits"], computed(model, 5))
    assert tensors["router_logits"].dtype == np.float32
    assert metadata["format"] == "moesim.trace" and metadata["version"] == "1"
    assert metadata["experts"] == str(small_moe.EXPERTS)


@pytest.mark.parametrize(
    ("factory", "options"),
    [("softmaxed", []), ("softmaxed", ["--output", "probabilities"]), ("sigmoid", ["--output", "sigmoid"])],
)
def test_probabilities_become_logits_that_give_them_back(factory, options, record):
    _, tensors, model = record(factory, *generate(*options))
    logits = torch.tensor(tensors["router_logits"])
    expected = torch.tensor(computed(model, 5))
    back, wanted = ((torch.sigmoid(logits), torch.sigmoid(expected)) if factory == "sigmoid"
                    else (torch.softmax(logits, -1), torch.softmax(expected, -1)))  # fmt: skip
    assert torch.allclose(back, wanted, atol=1e-6)


def test_logits_that_look_like_probabilities_can_be_named(record):
    _, tensors, model = record("softmaxed", *generate("--output", "logits"))
    assert np.allclose(tensors["router_logits"].sum(-1), 1, atol=1e-6)


def test_half_precision_is_kept_and_can_be_chosen(record):
    _, tensors, model = record("half", "--tokens", "1 2 3")
    assert np.array_equal(tensors["router_logits"], computed(model, 0))
    _, tensors, model = record("linear", "--tokens", "[1, 2, 3]", "--dtype", "F16")
    assert np.array_equal(tensors["router_logits"], computed(model, 0).astype(np.float16))


# --- tokens, phases, sequences -----------------------------------------------------------------


def test_generated_tokens_are_the_best_and_stand_after_the_prompt(record):
    _, tensors, model = record("linear", *generate(new=4))
    ids = tensors["token_ids"].tolist()
    assert ids[: len(PROMPT)] == small_moe.encode(PROMPT)
    for n in range(len(PROMPT), len(ids)):
        with torch.no_grad():
            assert ids[n] == int(model(torch.tensor([ids[:n]]))[0, -1].argmax())
    assert tensors["phase"].tolist() == [0] * len(PROMPT) + [1] * 4
    assert tensors["sequence"].tolist() == [0] * len(ids)


def test_drawn_tokens_follow_the_seed(record):
    draw = ["--temperature", 2, "--seed"]
    first, again, other = (
        record("linear", *generate(*draw, seed, new=12))[1]["token_ids"].tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_a_given_text_counts_as_decoded_and_is_cut_into_sequences(record, tmp_path):
    (tmp_path / "text").write_text("abcdefgh")
    _, tensors, _ = record("linear", "--text", tmp_path / "text", "--context", 3)
    assert tensors["token_ids"].tolist() == list(b"abcdefgh")
    assert tensors["sequence"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert tensors["phase"].tolist() == [1] * 8


def test_several_prompts_and_a_prefill_of_ones_own(record):
    _, tensors, _ = record("linear", "--tokens", "1,2,3", "--tokens", "4,5", "--max-new-tokens", 1,
                           "--prefill", 2)  # fmt: skip
    assert tensors["sequence"].tolist() == [0] * 4 + [1] * 3
    assert tensors["phase"].tolist() == [0, 0, 1, 1, 0, 0, 1]
    assert tensors["token_ids"].tolist()[:3] + tensors["token_ids"].tolist()[4:6] == [1, 2, 3, 4, 5]


# --- further tensors ---------------------------------------------------------------------------


def test_the_inputs_norm_and_the_next_layers_view(record):
    _, tensors, model = record("linear", "--tokens", "1,2,3", "--next-layer-logits")
    inputs = []
    for layer in model.layers:
        layer.mlp.gate.register_forward_hook(lambda _, x, __: inputs.append(x[0]))
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]]))
        following = [model.layers[i + 1].mlp.gate(inputs[i]) for i in range(small_moe.LAYERS - 1)]
    l1 = torch.stack([x.abs().sum(-1) for x in inputs[: small_moe.LAYERS]], 1)
    assert np.allclose(tensors["router_input_l1"], l1)
    assert np.allclose(tensors["next_layer_logits"][:, :-1], torch.stack(following, 1), atol=1e-6)


def test_a_selection_bias_is_recorded_where_there_is_one(record):
    _, tensors, model = record("selecting", "--tokens", "1,2")
    expected = [layer.mlp.gate.e_score_correction_bias.tolist() for layer in model.layers]
    assert tensors["selection_bias"].tolist() == expected
    assert "selection_bias" not in record("linear", "--tokens", "1,2")[1]


# --- the file ----------------------------------------------------------------------------------


def test_sim_takes_the_trace(record, run_sim, tmp_path):
    record("selecting", *generate("--gate", "D", "--top-k", 2, "--next-layer-logits", new=40))
    inspected = run_sim("trace", "inspect", "--json", record.path)
    assert inspected.returncode == 0, inspected.stderr
    shown = json.loads(inspected.stdout)["metadata"]
    assert (shown["gate"], shown["top_k"], shown["model"]) == ("D", "2", "selecting")
    config = {
        "trace": {"path": str(record.path)}, "device": "oneplus-15r", "routing": {"policy": "cache_prior"},
        "model": {
            "name": "small", "hidden_size": small_moe.HIDDEN, "num_hidden_layers": small_moe.LAYERS,
            "num_experts": small_moe.EXPERTS, "num_experts_per_tok": small_moe.K,
            "moe_intermediate_size": small_moe.HIDDEN, "vocab_size": small_moe.VOCABULARY,
            "gate": {"function": "sigmoid", "selection_bias": True}, "attention": {"num_attention_heads": 4},
        },
        "cache": {"capacity_experts": 4}, "prefetch": {"policy": "next_layer_gate"},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    ran = run_sim("run", "--config", tmp_path / "config.json", "--json", "-")
    assert ran.returncode == 0, ran.stderr
    result = json.loads(ran.stdout)
    assert result["tokens"] == {"prefill": len(PROMPT), "warmup": 0, "measured": 40}
    assert result["cache"]["accesses"] == 40 * small_moe.LAYERS * small_moe.K


def test_gate_and_k_come_from_the_configuration_or_are_asked_for(record):
    metadata, _, _ = record("with_config", "--tokens", "1")
    assert (metadata["gate"], metadata["top_k"], record.error.count("\n")) == ("A", "2", 1)
    metadata, _, _ = record("with_config", "--tokens", "1", "--gate", "B", "--top-k", 3,
                            "--model-name", "mine")  # fmt: skip
    assert (metadata["gate"], metadata["top_k"], metadata["model"]) == ("B", "3", "mine")
    metadata, _, _ = record("linear", "--tokens", "1")
    assert "gate" not in metadata and "top_k" not in metadata
    assert "gate is unknown and left out; name it by --gate\n" in record.error
    assert "top_k is unknown and left out; name it by --top-k\n" in record.error


# --- errors ------------------------------------------------------------------------------------


ERRORS = [
    ("linear", ["--tokens", "x"], '--tokens "x": expected ids >= 0 such as 1,5,7, got none'),
    ("linear", ["--tokens", "-1"], "expected ids >= 0"),
    ("linear", ["--tokens", "999"], "linear: a pass over 1 tokens failed: IndexError: "),
    ("linear", ["--text", "/absent"], "--text /absent: expected a file, got no such file or directory"),
    ("linear", ["--text", "/bin/true"], "--text /bin/true: expected text in UTF-8, got other bytes"),
    ("linear", ["--prompt", ""], "text 0: expected at least one token, got none"),
    ("linear", ["--tokens", "1", "--router", "gates"], "--router: expected the name or a pattern of the routers that matches; gates does not, got modules such as layers.0.mlp.gate, "),
    ("linear", ["--tokens", "1", "--router", "("], "--router (: expected a regular expression, got "),
    ("linear", ["--tokens", "1", "--router", r".*\.mix|.*\.gate"], "router layers.0.mlp.gate: expected 16 experts, as at layers.0.mix, got 8"),
    ("plain", ["--tokens", "1"], "--router: expected the name or a pattern of the routers, got modules such as 0, 1"),
    ("half", ["--prompt", "a"], "--prompt, --text: expected a module whose factory also returns a function text -> ids, got none: take --tokens"),
    ("ambiguous", ["--tokens", "1"], "router layers.0.mlp.gate: expected one output [tokens, experts] or a matrix `weight`, got outputs [1, 8], [1, 8]: name a module inside it by --router"),
    ("ambiguous", ["--tokens", "1", "--router", r".*\.inside"], "router layers.0.mlp.gate.inside: expected one call a pass, got 2"),
    ("skipped", ["--tokens", "1"], "router layers.1.mlp.gate: expected one call a pass, got 0"),
    ("uneven", ["--tokens", "1"], "router layers.1.mlp.gate: expected 8 experts, as at layers.0.mlp.gate, got 7"),
    ("broken", ["--tokens", "1,2"], "router layers.0.mlp.gate: expected finite logits, got NaN or infinity at token 0, layer 0"),
    ("linear", ["--tokens", "1", "--output", "probabilities"], "router layers.0.mlp.gate: expected probabilities that add up to 1, got other values"),
    ("linear", ["--tokens", "1", "--output", "sigmoid"], "router layers.0.mlp.gate: expected sigmoids between 0 and 1, got another value"),
    ("nested", ["--tokens", "1", "--router", r".*\.gate", "--next-layer-logits"], "--next-layer-logits: expected routers that are one product of their input, got layers.1.mlp.gate"),
    ("not_a_module", ["--tokens", "1"], "expected a torch.nn.Module from the factory, got int"),
    ("failing", ["--tokens", "1"], "small_moe.py:failing: ValueError: no weights here"),
    ("absent", ["--tokens", "1"], "small_moe.py: expected a function absent, got none"),
    ("exiting", ["--tokens", "1"], "small_moe.py:exiting: SystemExit: 3\n"),
    ("immovable", ["--tokens", "1"], "small_moe.py:immovable: --device cpu: RuntimeError: no room on cpu"),
    ("single", ["--tokens", "1", "--next-layer-logits"], "--next-layer-logits: expected at least two routers, got only layers.0.mlp.gate"),
    # The next sequence would fail: these are known after the first pass.
    ("linear", ["--tokens", "1", "--tokens", "999", "--top-k", "9"], "top_k of --top-k or the configuration: expected at most the 8 experts of layers.0.mlp.gate, got 9"),
    ("with_large_k", ["--tokens", "1", "--tokens", "999"], "top_k of --top-k or the configuration: expected at most the 8 experts of layers.0.mlp.gate, got 9"),
    # The factory would fail: a device is looked at before.
    ("failing", ["--tokens", "1", "--device", "nosuch"], "--device nosuch: expected a device that this PyTorch has, such as cpu, got RuntimeError: "),
    ("failing", ["--tokens", "1", "--device", "cuda:99"], "--device cuda:99: expected a device that this PyTorch has, such as cpu, got "),
    ("failing", ["--tokens", "1", "--device", "meta"], "--device meta: expected a device that this PyTorch has, such as cpu, got NotImplementedError: "),
]  # fmt: skip


@pytest.mark.parametrize("case", ERRORS, ids=[f"{i}-{case[0]}" for i, case in enumerate(ERRORS)])
def test_what_cannot_be_recorded_is_one_line_and_no_file(case, tmp_path, capsys):
    factory, arguments, part = case
    refused(capsys, ["--module", f"{SMALL}:{factory}", "--out", tmp_path / "x", *arguments], part)
    assert list(tmp_path.iterdir()) == []


USAGE = [
    (["--tokens", "1"], "expected MODEL or --module FILE.py:FACTORY, got neither"),
    (["m", "--module", "x.py:y", "--tokens", "1"], "expected MODEL or --module FILE.py:FACTORY, got both"),
    (["m", "--tokens", "1", "--context", "3"], "--context: expected --text beside it, got none"),
    (["m", "--tokens", "1", "--top-k", "0"], "expected a number >= 1, got 0"),
    (["m", "--tokens", "1", "--seed", str(2**63)], f"expected a number >= 0 and < 2^63, got {2**63}"),
    (["m", "--tokens", "1", "--seed", "-1"], "expected a number >= 0 and < 2^63, got -1"),
    (["m", "--tokens", "1", "--temperature", "inf"], "expected a number >= 0 and finite, got inf"),
    (["--module", "x", "--tokens", "1"], "--module x: expected FILE.py:FACTORY, got x"),
    (["--module", "/absent.py:y", "--tokens", "1"], "--module /absent.py: expected a file, got no such file"),
    (["m"], "one of the arguments --prompt --text --tokens is required"),
]  # fmt: skip


@pytest.mark.parametrize("case", USAGE, ids=range(len(USAGE)))
def test_wrong_usage_is_one_line(case, tmp_path, capsys):
    arguments, part = case
    refused(capsys, [*arguments, "--out", tmp_path / "x"], part)


def test_a_place_that_cannot_be_written_is_known_first(tmp_path, capsys):
    module = ["--module", f"{SMALL}:failing", "--tokens", "1", "--out"]
    refused(capsys, [*module, tmp_path / "a/b"], "expected a file in a folder that exists, got no folder")
    refused(capsys, [*module, tmp_path], "expected a file, got a folder")


def test_logits_beyond_a_type_and_probabilities_of_zero_are_refused():
    from record_file import RecordError

    with pytest.raises(RecordError, match="--dtype F16: expected logits within its range, got larger"):
        record_routers.stored(torch.tensor([1e6]), "F16")
    with pytest.raises(RecordError, match="expected a probability above 0 for every expert, got 0"):
        record_routers.as_logits("r", torch.tensor([[1.0, 0.0]]), "probabilities")


@pytest.mark.parametrize(
    ("missing", "line"),
    [("torch", "expected PyTorch (Debian's python3-torch), got: "),
     ("transformers", "model m: expected Hugging Face's transformers (pip install transformers), got ")],
)  # fmt: skip
def test_one_line_names_what_to_install(missing, line, tmp_path):
    (tmp_path / f"{missing}.py").write_text(f"raise ImportError('No module named {missing}')\n")
    ran = subprocess.run(
        [sys.executable, SCRIPT, "m", "--tokens", "1", "--out", "x"], cwd=tmp_path, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)}, check=False, timeout=120,
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"record_trace.py: error: {line}No module named {missing}\n"


def test_an_interrupted_generation_leaves_nothing(tmp_path):
    (tmp_path / "mine.py").write_text(
        f"import os, signal, sys\nsys.path.insert(0, {str(SMALL.parent)!r})\nimport small_moe\n"
        "class Moe(small_moe.SmallMoe):\n"
        "    calls = 0\n"
        "    def forward(self, ids):\n"
        "        self.calls += 1\n"
        "        if self.calls == 3: os.kill(os.getpid(), getattr(signal, os.environ['SIGNAL']))\n"
        "        return super().forward(ids)\n"
        "def make(): return Moe(small_moe.Linear)\n"
    )
    before = sorted(tmp_path.iterdir())
    for name, status in (("SIGINT", 130), ("SIGKILL", -signal.SIGKILL)):
        ran = subprocess.run(
            [sys.executable, "-B", SCRIPT, "--module", "mine.py:make", "--tokens", "1", "--max-new-tokens",
             "9", "--out", "x"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
            env={**os.environ, "SIGNAL": name},
        )  # fmt: skip
        assert ran.returncode == status
        assert sorted(tmp_path.iterdir()) == before
        if status > 0:
            assert ran.stderr == "record_trace.py: error: interrupted: nothing is written\n"
