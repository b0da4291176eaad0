"""Where a recording comes from: a model of Hugging Face's transformers or a module in a file; what its
configuration says of gate and k; how it generates."""

import importlib.util
import json
import operator
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

import torch

from record_file import RecordError, wrong

K_KEYS = ["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_k", "moe_topk",
          "moe_top_k", "num_selects", "top_k_experts",
          "moe_num_active_primary_experts"]  # fmt: skip
# Gate code by model_type (docs/glossary.md). A pair: by norm_topk_prob, whose default is the second.
ALWAYS = {
    "ernie4_5_moe": "A", "gemma4": "A", "gpt_oss": "A", "granitemoe": "A", "grinmoe": "F", "jamba": "B",
    "jetmoe": "A", "lfm2_moe": "D", "llama4": "G", "llama_moe": "A", "minicpm": "A", "mixtral": "A",
    "phimoe": "F", "xverse": "A", "glm4_moe": "D", "nemotron_h": "D",
}  # fmt: skip
BY_NORM = {
    "deepseek": False, "deepseek_v2": False, "olmoe": False, "qwen2_moe": False, "qwen3_moe": False,
    "qwen3_next": True, "qwen3_5_moe": True,
}  # fmt: skip
BY_SCORING = {"deepseek": "softmax", "deepseek_v2": "softmax", "deepseek_v3": "sigmoid",
              "glm4_moe_lite": "sigmoid", "kimi_k2": "sigmoid"}  # fmt: skip

# What code of the user may raise; sys.exit in it is an error too, not the end of the recorder.
FAULTS = (Exception, SystemExit)
IDS = 2**31  # they stand in the trace as I32


class Source(NamedTuple):
    name: str
    model: Any
    encode: Optional[Callable]  # text -> ids; None: only ids are taken
    config: dict
    caches: bool  # takes past_key_values
    device: str
    end: set  # ids that end a text


def gate_of(config):
    """The gate code that a Hugging Face configuration implies, or None."""
    family = str(config.get("model_type", "")).removesuffix("_text")
    if family == "smallthinker":
        norm = config.get("norm_topk_prob", True)
        softmax = config.get("moe_primary_router_apply_softmax", False)
        return ("A" if norm else "B") if softmax else ("E" if norm else "D")
    if config.get("scoring_func", BY_SCORING.get(family)) == "sigmoid" and family in BY_SCORING:
        return "D"
    if family in BY_SCORING or family in BY_NORM:
        norm = config.get("norm_topk_prob", BY_NORM.get(family, True))
        return "A" if norm else "B"
    return ALWAYS.get(family)


def top_k_of(config):
    """A number, or of a list by layer the one number in it."""
    for key in K_KEYS:
        value = config.get(key)
        if isinstance(value, list) and len(set(value)) == 1:
            value = value[0]
        if isinstance(value, int) and value > 0:
            return value
    return None


def config_of(model):
    """The configuration of the language part as a dict; {} where the model has none."""
    config = getattr(model, "config", None)
    config = getattr(config, "text_config", None) or config
    if isinstance(config, dict):
        return config
    return config.to_dict() if hasattr(config, "to_dict") else {}


def short(error):
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_device(device):
    """Before a model is loaded: whether this PyTorch can compute there and give values back."""
    try:
        torch.empty(0, device=device).cpu()
    except Exception as error:  # a CUDA that was not built in is an AssertionError
        raise wrong(f"--device {device}", "a device that this PyTorch has, such as cpu", short(error)) from None


def placed(model, device, place):
    try:
        return model.to(device).eval()
    except FAULTS as error:
        raise RecordError(f"{place}: --device {device}: {short(error)}") from None


def from_file(place, device):
    """FILE.py:FACTORY; the factory returns a module, or a module and a function text -> ids."""
    file, _, name = place.rpartition(":")
    if not file.endswith(".py") or not name.isidentifier():
        raise wrong(f"--module {place}", "FILE.py:FACTORY", place)
    if not os.path.isfile(file):
        raise wrong(f"--module {file}", "a file", "no such file")
    spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, file)
    code = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(pathlib.Path(file).absolute().parent))
    try:
        spec.loader.exec_module(code)
        if not callable(getattr(code, name, None)):
            raise wrong(f"--module {file}", f"a function {name}", "none")
        made = getattr(code, name)()
    except RecordError:
        raise
    except FAULTS as error:
        raise RecordError(f"--module {place}: {short(error)}") from None
    finally:
        sys.path.pop(0)
    model, encode = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(model, torch.nn.Module):
        raise wrong(f"--module {place}", "a torch.nn.Module from the factory", type(model).__name__)
    model = placed(model, device, f"--module {place}")
    return Source(name, model, encode, config_of(model), False, device, set())


def from_transformers(name, device, trust):
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError as error:
        needed = "Hugging Face's transformers (pip install transformers)"
        raise wrong(f"model {name}", needed, str(error)) from None
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_pretrained(name, torch_dtype="auto", trust_remote_code=trust)
    except (OSError, ValueError, ImportError) as error:
        raise RecordError(f"model {name}: {short(error)}") from None
    end = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    end = tokenizer.eos_token_id if end is None else end
    ends = set(end if isinstance(end, list) else [] if end is None else [end])
    encode = lambda text: list(tokenizer(text)["input_ids"])  # noqa: E731
    shown = pathlib.Path(name).name
    model = placed(model, device, f"model {name}")
    return Source(shown, model, encode, config_of(model), True, device, ends)


def encoded(source, text, place):
    """The ids of a text by the source's own function."""
    try:
        found = source.encode(text)
    except FAULTS as error:
        raise RecordError(f"{place}: the function text -> ids of {source.name} failed: {short(error)}") from None
    expected = f"ids from 0 to 2^31 - 1 from the function text -> ids of {source.name}"
    try:
        ids = [operator.index(token) for token in found]
    except FAULTS as error:
        raise wrong(place, expected, short(error)) from None
    if not ids:
        raise wrong(place, "at least one token", "none")
    for token in ids:
        if not 0 <= token < IDS:
            raise wrong(place, expected, token)
    return ids


class Pass(NamedTuple):
    scores: torch.Tensor  # [vocabulary], of the token after the last
    cache: Any


def scores_of(source, out):
    """[vocabulary] of the token after the last, from what a model returns."""
    found = out
    if not isinstance(out, torch.Tensor) and hasattr(out, "logits"):
        found = out.logits
    elif isinstance(out, Mapping):
        found = out.get("logits")
    elif isinstance(out, tuple) and out:
        found = out[0]
    expected = "scores [1, tokens, vocabulary], alone, first of a tuple, or as logits"
    if not isinstance(found, torch.Tensor):
        without = "" if found is out else f" with {type(found).__name__}"
        raise wrong(f"{source.name}: output", expected, type(out).__name__ + without)
    if not found.dim() or not found.numel():
        raise wrong(f"{source.name}: output", expected, f"a tensor {list(found.shape)}")
    return found.reshape(-1, found.shape[-1])[-1].float()


def forward(source, ids, cache):
    tokens = torch.tensor([ids], dtype=torch.long, device=source.device)
    try:
        if source.caches:
            out = source.model(input_ids=tokens, past_key_values=cache, use_cache=True)
            return Pass(scores_of(source, out), out.past_key_values)
        return Pass(scores_of(source, source.model(tokens)), None)
    except RecordError:  # of a hook, or of the output
        raise
    except FAULTS as error:
        raise RecordError(f"{source.name}: a pass over {len(ids)} tokens failed: {short(error)}") from None


def chooser(temperature, seed):
    """scores -> id: the best one, or drawn where the temperature is above 0."""
    generator = torch.Generator().manual_seed(seed)

    def choose(scores):
        if temperature == 0:
            return int(scores.argmax())
        scores = scores.cpu().double()
        # From the best one down: a small temperature then gives -infinity, not infinity over infinity.
        weights = torch.softmax((scores - scores.max()) / temperature, -1)
        if not bool(torch.isfinite(weights).all()):
            raise wrong("--temperature", "scores to draw from", "NaN or infinity")
        return int(torch.multinomial(weights, 1, generator=generator))

    return choose


def play(source, recorder, sequence, ids, prefill, new_tokens, choose):
    """The given tokens in one pass, then generated ones; yields after each pass. A model without a cache
    sees all tokens again for each new one, and only the new one's rows are kept."""
    ids = list(ids)
    now = forward(source, ids, None)
    phases = [0] * min(prefill, len(ids)) + [1] * max(0, len(ids) - prefill)
    recorder.take(len(ids), ids, sequence, phases)
    yield len(ids)
    for _ in range(new_tokens):
        token = choose(now.scores)
        if token in source.end:
            return
        ids.append(token)
        fed = [token] if source.caches else ids
        now = forward(source, fed, now.cache)
        recorder.take(len(fed), [token], sequence, [1])
        yield 1


def metadata_of(source, recorder, **given):
    """What the file says of the recording; `given` replaces what the configuration implies."""
    found = {
        "model": given["model_name"] or source.name,
        "top_k": recorder.top_k,
        "gate": given["gate"] or gate_of(source.config),
        "experts": recorder.logits[0].shape[-1],
        "layers": ",".join(tap.name for tap in recorder.taps),
        "provenance": given["provenance"],
    }
    found = {key: str(value) for key, value in found.items() if value is not None}
    return {"format": "moesim.trace", "version": "1", **found}


def text_of(file):
    try:
        return pathlib.Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise wrong(f"--text {file}", "a file", error.strerror.lower()) from None
    except UnicodeDecodeError:
        raise wrong(f"--text {file}", "text in UTF-8", "other bytes") from None


def numbers(text):
    """Token ids as a JSON array or separated by spaces or commas."""
    try:
        found = [int(part) for part in text.strip(" []\n").replace(",", " ").split()]
    except ValueError:
        found = []
    if not found or min(found) < 0 or max(found) >= IDS:
        raise wrong(f"--tokens {json.dumps(text)}", "ids >= 0 such as 1,5,7", "none" if not found else "others")
    return found
