"""Which models scripts/record_trace.py knows: the families' routers, their gates, transformers' API; modules
of one's own; how they generate."""

import json
import re
import sys
import types

import pytest

torch = pytest.importorskip("torch", reason="needs Debian's python3-torch")
np = pytest.importorskip("numpy", reason="needs Debian's python3-numpy")

import odd_moe  # noqa: E402
import record_models  # noqa: E402
import record_routers  # noqa: E402
import record_trace  # noqa: E402
import small_moe  # noqa: E402
from record_file import RecordError  # noqa: E402
from recorded import PROMPT, generate, read, record, refused  # noqa: E402, F401


# --- families ----------------------------------------------------------------------------------

# What the families call their routers; a part in brackets is not one.
NAMES = [
    "model.layers.0.block_sparse_moe.gate", "model.layers.1.mlp.gate", "model.layers.2.mlp.router",
    "model.layers.3.block_sparse_moe.router.layer", "model.layers.4.feed_forward.router",
    "model.layers.5.feed_forward.gate", "model.layers.6.block_sparse_moe.primary_router",
    "backbone.layers.7.mixer.gate", "model.layers.8.mlp.gate.gate_network", "model.layers.9.router.proj",
    "model.layers.10.mlp.gate",
]  # fmt: skip
OTHERS = ["model.layers.0.self_attn.gate", "model.layers.1.mlp.shared_expert_gate",
          "model.layers.11.mlp.gate_proj", "model.layers.0.self_attention.experts.router.layer"]  # fmt: skip


def tree(names):
    """A module that has submodules of these names, and experts beside each router."""
    root = torch.nn.Module()
    for name in names:
        at = root
        for part in name.split("."):
            if part not in dict(at.named_children()):
                at.add_module(part, torch.nn.Module())
            at = getattr(at, part)
    return root


def test_the_routers_of_the_families_are_found_in_the_order_of_layers():
    beside = ["model.layers.9.experts.0"]
    for name in NAMES:
        block = name.partition(".router")[0].partition(".gate")[0].partition(".primary_router")[0]
        beside.append(f"{block}.experts.0")
    found = [name for name, _ in record_routers.find_routers(tree([*NAMES, *OTHERS, *beside]))]
    assert sorted(found) == sorted(NAMES)
    assert [n for n in found if n.startswith("model")] == [n for n in NAMES if n.startswith("model")]


def test_a_gate_without_experts_beside_it_is_no_router():
    with pytest.raises(RecordError):
        record_routers.find_routers(tree(["model.layers.0.mlp.gate", "model.layers.0.mlp.up_proj"]))


def test_gate_and_k_of_the_known_configurations(data_dir, run_sim, tmp_path):
    """As `sim model import` reads them."""
    files = sorted((data_dir / "hf_configs").glob("*.json"))
    assert len(files) >= 8
    for file in files:
        out = tmp_path / file.name
        assert run_sim("model", "import", file, "--out", out).returncode == 0
        model, config = json.loads(out.read_text()), json.loads(file.read_text())
        gate, norm = model["gate"]["function"], model["gate"].get("norm_topk_prob", False)
        code = {"softmax": "A" if norm else "B", "sigmoid": "D", "sparsemixer": "F", "top1_sigmoid": "G"}[gate]
        assert record_models.gate_of(config) == code, file.name
        assert record_models.top_k_of(config) == model["num_experts_per_tok"], file.name


def test_every_family_that_sim_imports_has_a_gate(repo_root):
    table = (repo_root / "src/model/hf_families.cpp").read_text()
    families = set(re.findall(r'model_type = "(\w+)"|alias\(\w+, "(\w+)"\)', table))
    names = {a or b for a, b in families}
    assert len(names) > 20
    assert [name for name in names if record_models.gate_of({"model_type": name}) is None] == []


# --- transformers ------------------------------------------------------------------------------


@pytest.fixture
def fake_transformers(monkeypatch):
    """As much of transformers' public API as the recorder uses, over the small model."""
    calls = []

    class Model(small_moe.SmallMoe):
        def forward(self, input_ids=None, past_key_values=None, use_cache=None):
            calls.append((input_ids.shape[1], past_key_values is None))
            assert use_cache
            return self.with_cache(input_ids, past_key_values)

    class AutoModelForCausalLM:
        @staticmethod
        def from_pretrained(name, torch_dtype, trust_remote_code):
            assert (torch_dtype, trust_remote_code) == ("auto", False)
            if name == "absent":
                raise OSError("absent is not a\nlocal folder")
            model = Model(small_moe.Linear)
            config = {"model_type": "mixtral", "num_experts_per_tok": small_moe.K}
            model.config = types.SimpleNamespace(to_dict=lambda: config)
            model.generation_config = types.SimpleNamespace(eos_token_id=module.end)
            return model

    class AutoTokenizer:
        eos_token_id = None

        @classmethod
        def from_pretrained(cls, name, trust_remote_code):
            return cls()

        def __call__(self, text):
            return {"input_ids": small_moe.encode(text), "attention_mask": [1] * len(text)}

    module = types.ModuleType("transformers")
    module.AutoModelForCausalLM, module.AutoTokenizer, module.end = AutoModelForCausalLM, AutoTokenizer, None
    module.calls = calls
    monkeypatch.setitem(sys.modules, "transformers", module)
    return module


def test_transformers_models_decode_with_their_cache(fake_transformers, tmp_path, record):
    out = tmp_path / "out"
    arguments = ["some/small-moe", "--prompt", PROMPT, "--max-new-tokens", "6", "--out", str(out)]
    assert record_trace.main(arguments) == 0
    metadata, tensors = read(out)
    assert (metadata["model"], metadata["gate"], metadata["top_k"]) == ("small-moe", "A", "2")
    assert fake_transformers.calls == [(len(PROMPT), True)] + [(1, False)] * 6
    _, whole, _ = record("linear", *generate(new=6))  # without a cache
    assert tensors["token_ids"].tolist() == whole["token_ids"].tolist()
    assert np.allclose(tensors["router_logits"], whole["router_logits"], atol=1e-5)


def test_transformers_models_end_where_they_say_so(fake_transformers, tmp_path):
    out = tmp_path / "out"
    arguments = ["m", "--prompt", PROMPT, "--max-new-tokens", "6", "--out", str(out)]
    assert record_trace.main(arguments) == 0
    ids = read(out)[1]["token_ids"].tolist()[len(PROMPT) :]
    fake_transformers.end = [ids[2]]
    assert record_trace.main(arguments) == 0
    assert read(out)[1]["token_ids"].tolist()[len(PROMPT) :] == ids[: ids.index(ids[2])]


def test_a_model_that_transformers_cannot_load_is_one_line(fake_transformers, tmp_path, capsys):
    refused(capsys, ["absent", "--prompt", "a", "--out", tmp_path / "x"],
            "model absent: OSError: absent is not a local folder")  # fmt: skip


# --- modules of one's own ----------------------------------------------------------------------


ODD = odd_moe.__file__


@pytest.mark.parametrize("factory", ["mapping", "tensors"])
def test_a_module_may_return_a_mapping_and_its_function_a_tensor(factory, tmp_path, record):
    text = ["--tokens", "65,32"] if factory == "mapping" else ["--prompt", "A "]
    given = ["--module", f"{ODD}:{factory}", *text, "--max-new-tokens", "4", "--out", str(tmp_path / "x")]
    assert record_trace.main(given) == 0
    _, expected, _ = record("linear", "--prompt", "A ", "--max-new-tokens", 4)
    found = read(tmp_path / "x")[1]
    assert found["token_ids"].tolist() == expected["token_ids"].tolist()
    assert np.array_equal(found["router_logits"], expected["router_logits"])


OUTPUT = "output: expected scores [1, tokens, vocabulary], alone, first of a tuple, or as logits, got "
ENCODING = "text 0: expected ids from 0 to 2^31 - 1 from the function text -> ids of "
FAULTS = [
    ("unnamed", f"unnamed: {OUTPUT}dict with NoneType\n"),
    ("listed", f"listed: {OUTPUT}list\n"),
    ("summed", f"summed: {OUTPUT}a tensor []\n"),
    ("leaving", "leaving: a pass over 1 tokens failed: SystemExit\n"),
    ("wordless", "text 0: the function text -> ids of wordless failed: KeyError: 'a'\n"),
    ("quitting", "text 0: the function text -> ids of quitting failed: SystemExit: 3\n"),
    ("fractional", f"{ENCODING}fractional, got TypeError: 'float' object cannot be "),
    ("countless", f"{ENCODING}countless, got TypeError: 'NoneType' object is not iterable\n"),
    ("negative", f"{ENCODING}negative, got -1\n"),
]


@pytest.mark.parametrize(("factory", "line"), FAULTS, ids=[fault[0] for fault in FAULTS])
def test_a_module_that_cannot_be_used_is_one_line_and_no_file(factory, line, tmp_path, capsys):
    given = ["--tokens", "1"] if factory in ("unnamed", "listed", "summed", "leaving") else ["--prompt", "a"]
    refused(capsys, ["--module", f"{ODD}:{factory}", *given, "--out", tmp_path / "x"], line)
    assert list(tmp_path.iterdir()) == []


# --- generating --------------------------------------------------------------------------------


def test_the_smallest_temperature_draws_the_best_token(record):
    drawn = record("linear", *generate("--temperature", "1e-320"))[1]["token_ids"]
    assert drawn.tolist() == record("linear", *generate())[1]["token_ids"].tolist()


def test_drawing_takes_the_largest_seed_and_refuses_what_has_no_best():
    choose = record_models.chooser(1.0, 2**63 - 1)
    assert choose(torch.tensor([0.0, float("-inf")])) == 0
    for scores in ([0.0, float("nan")], [0.0, float("inf")], [float("-inf")] * 2):
        with pytest.raises(RecordError, match="--temperature: expected scores to draw from, got NaN or inf"):
            choose(torch.tensor(scores))
