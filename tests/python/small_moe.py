"""A small mixture-of-experts language model in PyTorch, with random weights, for tests of the recorder.
Each kind routes as some family does. `computed` of a router keeps what it said in each call."""

import sys

import torch
from torch import nn

LAYERS, EXPERTS, K, HIDDEN, VOCABULARY = 3, 8, 2, 16, 256


def encode(text):
    return list(text.encode())


class Linear(nn.Linear):
    """A router that is one matrix, as in Mixtral: [tokens, hidden] -> logits."""

    def __init__(self):
        super().__init__(HIDDEN, EXPERTS, bias=False)
        self.computed = []

    def forward(self, x):
        logits = super().forward(x)
        self.computed.append(logits.detach().reshape(-1, EXPERTS).clone())
        return logits


class Selecting(nn.Module):
    """Returns only what it selected, as DeepSeek's; its bias takes part in the selection."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(EXPERTS, HIDDEN))
        self.register_buffer("e_score_correction_bias", torch.randn(EXPERTS))
        self.computed = []

    def logits(self, x):
        logits = nn.functional.linear(x, self.weight)
        self.computed.append(logits.detach().reshape(-1, EXPERTS).clone())
        return logits

    def forward(self, x):
        scores = torch.sigmoid(self.logits(x))
        chosen = torch.topk(scores + self.e_score_correction_bias, K).indices
        return chosen, scores.gather(-1, chosen)


class Telling(Selecting):
    """Returns scattered scores and logits, as Llama 4's."""

    def forward(self, x):
        logits = self.logits(x)
        best = torch.topk(logits, K)
        scores = torch.full_like(logits, float("-inf")).scatter(-1, best.indices, best.values)
        return torch.sigmoid(scores), logits


class Softmaxed(Linear):
    def forward(self, x):
        return torch.softmax(super().forward(x), -1)


class Sigmoid(Linear):
    def forward(self, x):
        return torch.sigmoid(super().forward(x))


class Nested(nn.Module):
    """Its matrix is a module of its own, as in Granite."""

    def __init__(self):
        super().__init__()
        self.layer = Linear()

    @property
    def computed(self):
        return self.layer.computed

    def forward(self, x):
        best = torch.topk(self.layer(x), K)
        return best.indices, torch.softmax(best.values, -1)


class Ambiguous(Linear):
    """Two outputs of equal width and no matrix of its own."""

    weight = None

    def __init__(self):
        nn.Module.__init__(self)
        self.inside = Linear()

    def forward(self, x):
        return self.inside(x), self.inside(x)


class Broken(Linear):
    def forward(self, x):
        return super().forward(x) * float("nan")


class Mlp(nn.Module):
    """All experts run, those that were not chosen with weight 0: what it computes does not matter."""

    def __init__(self, router, flat):
        super().__init__()
        self.gate, self.flat = router(), flat
        self.experts = nn.ModuleList(nn.Linear(HIDDEN, HIDDEN) for _ in range(EXPERTS))

    def forward(self, x):
        self.gate(x.reshape(-1, HIDDEN) if self.flat else x)
        return sum(expert(x) for expert in self.experts) / EXPERTS


class Layer(nn.Module):
    def __init__(self, router, flat):
        super().__init__()
        self.mix = nn.Linear(HIDDEN, HIDDEN)
        self.mlp = Mlp(router, flat)

    def forward(self, x, before):
        """`before`: sum over the positions that a cache keeps. Attention to all of them alike."""
        sums = before + x.cumsum(1)
        x = x + self.mix(torch.tanh(sums))
        return x + self.mlp(x), sums[:, -1:]


class Output:
    def __init__(self, logits, past_key_values):
        self.logits, self.past_key_values = logits, past_key_values


class SmallMoe(nn.Module):
    def __init__(self, router, flat=True, seed=7):
        torch.manual_seed(seed)
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, HIDDEN)
        self.layers = nn.ModuleList(Layer(router, flat) for _ in range(LAYERS))
        self.head = nn.Linear(HIDDEN, VOCABULARY)

    def forward(self, ids):
        return self.with_cache(ids, None).logits

    def with_cache(self, ids, cache):
        x, sums = self.embed(ids), []
        for i, layer in enumerate(self.layers):
            x, kept = layer(x, 0 if cache is None else cache[i])
            sums.append(kept)
        return Output(self.head(x), sums)

    def computed(self, layer):
        return self.layers[layer].mlp.gate.computed


class Immovable(SmallMoe):
    def to(self, device):
        raise RuntimeError(f"no room on {device}")


MADE = []  # the models that the factories made, for tests to look into


def made(router, **options):
    MADE.append(SmallMoe(router, **options))
    return MADE[-1], encode


def linear():
    return made(Linear)


def batched():
    return made(Linear, flat=False)


def selecting():
    return made(Selecting)


def telling():
    return made(Telling)


def softmaxed():
    return made(Softmaxed)


def sigmoid():
    return made(Sigmoid)


def nested():
    return made(Nested)


def ambiguous():
    return made(Ambiguous)


def broken():
    return made(Broken)


def half():
    model, _ = made(Linear)
    return model.to(torch.bfloat16)


def uneven():
    model, _ = made(Linear)
    model.layers[1].mlp.gate = nn.Linear(HIDDEN, EXPERTS - 1)
    return model


def skipped():
    model, _ = made(Linear)
    model.layers[1].mlp.forward = lambda x: x
    return model


def with_config():
    model, _ = made(Linear)
    model.config = {"model_type": "qwen3_moe", "norm_topk_prob": True, "num_experts_per_tok": K}
    return model


def plain():
    return nn.Sequential(nn.Embedding(VOCABULARY, HIDDEN), nn.Linear(HIDDEN, VOCABULARY))


def not_a_module():
    return 3


def failing():
    raise ValueError("no weights here")


def exiting():
    sys.exit(3)


def immovable():
    return Immovable(Linear)


def single():
    model, _ = made(Linear)
    model.layers = model.layers[:1]
    return model


def with_large_k():
    model, _ = made(Linear)
    model.config = {"num_experts_per_tok": EXPERTS + 1}
    return model
