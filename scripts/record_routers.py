"""Finds the routers of a mixture-of-experts model in PyTorch and takes down what they compute."""

import re

import torch

from record_file import RecordError, wrong

# What the families of `sim list models` call the router, seen from its block: Mixtral, Phi-3.5-MoE, GRIN-MoE
# (block_sparse_moe.gate), Qwen, OLMoE, DeepSeek, Kimi, GLM, ERNIE, MiniCPM (mlp.gate), gpt-oss, XVERSE
# (mlp.router), Granite, JetMoE (router.layer), Llama 4, Jamba (feed_forward.router), LFM2
# (feed_forward.gate), SmallThinker (primary_router), Nemotron (mixer.gate), LLaMA-MoE (gate_network),
# Gemma 4 (router.proj, in the decoder layer itself).
BLOCKS = r"(?:block_sparse_moe|mlp|feed_forward|mixer|moe|ffn)"
ROUTER = re.compile(rf"(?:.*\.)?(?:{BLOCKS}\.(?:gate|router|primary_router)|layers\.\d+\.router)")
# The matrix inside a router that is a module of several: its output is the logits.
INNER = ["layer", "proj", "gate_network"]
BIASES = {"e_score_correction_bias", "expert_bias"}
# Sums of probabilities in half precision are off by this much.
SUM_TOLERANCE = 1e-2
SAME_TOLERANCE = 2e-2


def natural(name):
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def parent_of(modules, name):
    return modules[name.rpartition(".")[0]]


def has_experts(module):
    return any("expert" in name for name, _ in module.named_modules())


def find_routers(model, pattern=None):
    """[(name, module)] in the order of the layers. `pattern`: a name, or an expression that names match."""
    modules = dict(model.named_modules())
    if pattern is None:
        names = [n for n in modules if ROUTER.fullmatch(n) and has_experts(parent_of(modules, n))]
        inner = {n: next((f"{n}.{i}" for i in INNER if f"{n}.{i}" in modules), n) for n in names}
        names = [inner[n] for n in names]
    elif pattern in modules:
        names = [pattern]
    else:
        names = [n for n in modules if n and compiled(pattern).fullmatch(n)]
    if not names:
        but = "" if pattern is None else f" that matches; {pattern} does not"
        raise wrong("--router", "the name or a pattern of the routers" + but, f"modules such as {some(modules)}")
    return [(n, modules[n]) for n in sorted(names, key=natural)]


def compiled(pattern):
    try:
        return re.compile(pattern)
    except re.error as error:
        raise wrong(f"--router {pattern}", "a regular expression", str(error)) from None


def some(modules):
    """A few names that say what a model calls its parts: those whose name speaks of routing first."""
    names = [n for n in modules if n]
    routing = [n for n in names if re.search("gate|rout", n)]
    return ", ".join((routing + names)[:5]) or "none"


def tensors_in(value):
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for part in value for tensor in tensors_in(part)]
    return []


def rows(tensor):
    """[batch, tokens, experts] or [tokens, experts] -> [tokens, experts]."""
    return tensor.detach().reshape(-1, tensor.shape[-1])


def matrix(module):
    """Weight [experts, hidden] and bias or None of a router that is one product, else None."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor) or weight.dim() != 2:
        return None
    bias = getattr(module, "bias", None)
    return weight, bias if isinstance(bias, torch.Tensor) else None


def product(x, weight, bias):
    return torch.nn.functional.linear(x.float(), weight.float(), None if bias is None else bias.float())


def are_probabilities(values):
    values = values.float()
    return bool((values >= 0).all()) and bool(((values.sum(-1) - 1).abs() < SUM_TOLERANCE).all())


def as_logits(name, values, kind):
    """Logits whose softmax, or sigmoid, gives the values back."""
    values = values.double()
    if kind == "sigmoid":
        if not bool(((values > 0) & (values < 1)).all()):
            raise wrong(f"router {name}", "sigmoids between 0 and 1", "another value")
        return torch.logit(values).float()
    if not are_probabilities(values):
        raise wrong(f"router {name}", "probabilities that add up to 1", "other values")
    if not bool((values > 0).all()):
        raise wrong(f"router {name}", "a probability above 0 for every expert", "0: take its logits by --router")
    return values.log().float()


class Tap:
    """One router: its hook keeps the input and the logits of each call until they are taken."""

    def __init__(self, name, module, output):
        self.name, self.module, self.output = name, module, output
        self.calls = []
        try:
            self.handle = module.register_forward_hook(self._hook, with_kwargs=True)
        except TypeError:  # PyTorch before 2.0: inputs by name are not seen
            self.handle = module.register_forward_hook(lambda m, inputs, out: self._hook(m, inputs, {}, out))

    def _hook(self, _, inputs, named, output):
        inputs = [*inputs, *named.values()]
        x = rows(inputs[0]).clone() if inputs and isinstance(inputs[0], torch.Tensor) else None
        self.calls.append((x, self._logits(x, output)))

    def _logits(self, x, output):
        linear = type(self.module).forward is torch.nn.Linear.forward
        found = rows(output) if isinstance(output, torch.Tensor) else self._among(x, output)
        kind = self.output
        if kind == "auto":
            # The product of a matrix is no probability, whatever its values.
            kind = "probabilities" if not linear and are_probabilities(found) else "logits"
        # A copy: a model may go on in place.
        return found.clone() if kind == "logits" else as_logits(self.name, found, kind)

    def _among(self, x, output):
        """Of several outputs the logits. Where the router has a matrix, what it gives for the input
        decides; some routers return only what they selected."""
        found = [rows(tensor) for tensor in tensors_in(output)]
        parts = matrix(self.module)
        if parts and x is not None and x.shape[-1] == parts[0].shape[1] and self.output in ("auto", "logits"):
            own = product(x, *parts)
            return next((tensor for tensor in found if same(tensor, own)), own)
        widest = max((tensor.shape[-1] for tensor in found), default=0)
        found = [tensor for tensor in found if tensor.shape[-1] == widest]
        if len(found) == 1:
            return found[0]
        shapes = ", ".join(str(list(tensor.shape)) for tensor in tensors_in(output)) or "none"
        raise wrong(f"router {self.name}", "one output [tokens, experts] or a matrix `weight`",
                    f"outputs {shapes}: name a module inside it by --router")  # fmt: skip

    def take(self, passed, new):
        """(input or None, logits) of the last `new` of the `passed` tokens of one pass."""
        calls, self.calls = self.calls, []
        if len(calls) != 1:
            raise wrong(f"router {self.name}", "one call a pass", f"{len(calls)}")
        x, logits = calls[0]
        if logits.shape[0] != passed:
            raise wrong(f"router {self.name}", f"{passed} tokens in a pass", f"{logits.shape[0]}")
        return None if x is None else x[-new:], logits[-new:]


def same(tensor, own):
    if tensor.shape != own.shape:
        return False
    return bool((tensor.float() - own).abs().max() <= SAME_TOLERANCE * own.abs().max())


def selection_bias(model, name, experts):
    """The static bias on the selection that stands in the router's block, or None."""
    modules = dict(model.named_modules())
    block = name
    while block and not has_experts(modules[block]):
        block = block.rpartition(".")[0]
    for module in (modules[name], modules[block]):
        for key, value in [*module.named_parameters(), *module.named_buffers()]:
            if key.rpartition(".")[2] in BIASES and value.numel() == experts:
                return value.detach().float().reshape(-1)
    return None


class Recorder:
    """All routers of a model. Use as a context: the hooks are gone at its end."""

    def __init__(self, model, routers, output="auto", next_layer=False, top_k=None):
        if next_layer and len(routers) < 2:
            raise wrong("--next-layer-logits", "at least two routers", f"only {routers[0][0]}")
        self.model, self.next_layer, self.top_k = model, next_layer, top_k
        self.taps = [Tap(name, module, output) for name, module in routers]
        self.logits, self.next_logits, self.l1 = [], [], []
        self.tokens, self.sequences, self.phases = [], [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for tap in self.taps:
            tap.handle.remove()

    def take(self, passed, ids, sequence, phases):
        """After a pass over `passed` tokens, of which the last `ids` are new."""
        taken = [tap.take(passed, len(ids)) for tap in self.taps]
        self._check(taken)
        self.logits.append(torch.stack([logits for _, logits in taken], 1).cpu())
        if all(x is not None for x, _ in taken):
            self.l1.append(torch.stack([x.float().abs().sum(-1) for x, _ in taken], 1).cpu())
        if self.next_layer:
            self.next_logits.append(self._next_of([x for x, _ in taken]).cpu())
        self.tokens += ids
        self.sequences += [sequence] * len(ids)
        self.phases += phases

    def _check(self, taken):
        experts = taken[0][1].shape[-1]
        if self.top_k is not None and self.top_k > experts:  # now, not after a long recording
            expected = f"at most the {experts} experts of {self.taps[0].name}"
            raise wrong("top_k of --top-k or the configuration", expected, self.top_k)
        for layer, (tap, (_, logits)) in enumerate(zip(self.taps, taken)):
            if logits.shape[-1] != experts:
                raise wrong(f"router {tap.name}", f"{experts} experts, as at {self.taps[0].name}", logits.shape[-1])
            if not bool(torch.isfinite(logits).all()):
                token = len(self.tokens) + int((~torch.isfinite(logits)).any(-1).nonzero()[0])
                raise wrong(f"router {tap.name}", "finite logits", f"NaN or infinity at token {token}, layer {layer}")

    def _next_of(self, inputs):
        found = []
        for x, tap in zip(inputs, self.taps[1:]):
            parts = matrix(tap.module)
            if parts is None or x is None or x.shape[-1] != parts[0].shape[1]:
                raise wrong("--next-layer-logits", "routers that are one product of their input", tap.name)
            found.append(product(x, *parts))
        # The last layer has no next one; nobody looks at its rows.
        return torch.stack([*found, torch.zeros_like(found[-1])], 1)

    def tensors(self, dtype):
        """{name: (code, array)} of the trace; `dtype` F16, BF16, F32, or auto: that of the logits."""
        logits = torch.cat(self.logits)
        code = CODES.get(logits.dtype, "F32") if dtype == "auto" else dtype
        found = {
            "router_logits": (code, stored(logits, code)),
            "token_ids": ("I32", torch.tensor(self.tokens, dtype=torch.int32).numpy()),
            "sequence": ("I32", torch.tensor(self.sequences, dtype=torch.int32).numpy()),
            "phase": ("U8", torch.tensor(self.phases, dtype=torch.uint8).numpy()),
        }
        if len(self.l1) == len(self.logits):
            found["router_input_l1"] = ("F32", torch.cat(self.l1).numpy())
        if self.next_layer:
            found["next_layer_logits"] = ("F32", torch.cat(self.next_logits).numpy())
        biases = [selection_bias(self.model, tap.name, logits.shape[-1]) for tap in self.taps]
        if any(bias is not None for bias in biases):
            none = torch.zeros(logits.shape[-1])
            bias = torch.stack([none if b is None else b.cpu() for b in biases])
            found["selection_bias"] = ("F32", bias.numpy())
        return found


CODES = {torch.float16: "F16", torch.bfloat16: "BF16"}
TYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def stored(values, code):
    values = values.to(TYPES[code]).contiguous()
    if not bool(torch.isfinite(values).all()):
        raise RecordError(f"--dtype {code}: expected logits within its range, got larger ones: take F32")
    if code == "BF16":  # numpy has no such type; the bits are what is written
        return values.view(torch.int16).numpy().view("uint16")
    return values.numpy()
