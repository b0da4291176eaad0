"""The cells of the validation matrix: cache x lanes x overlap x size of an expert x policies."""

import dataclasses
import itertools
import json

CACHE_SHARES = [0.1, 0.3, 0.5, 0.7, 0.9]
LANES = [1, 2, 4]
OVERLAPS = ["none", "expert", "projection"]
POLICIES = {
    "lru": {"/routing": {"policy": "top_k"}, "/cache/eviction": {"policy": "lru"}},
    "cache_prior": {
        "/routing": {"policy": "cache_prior", "lambda": 0.2, "keep_top": 2},
        "/cache/eviction": {"policy": "lru"},
    },
}


@dataclasses.dataclass(frozen=True)
class Size:
    """Of the model of configs/validate.json, with other widths."""

    hidden: int
    intermediate: int

    @property
    def name(self):
        return f"{self.hidden}x{self.intermediate}"

    @property
    def expert_mib(self):
        return 3 * self.hidden * self.intermediate * 2 / 2**20


@dataclasses.dataclass(frozen=True)
class Cell:
    share: float
    lanes: int
    overlap: str
    size: Size
    policy: str

    @property
    def name(self):
        return f"{self.policy}-{self.size.name}-c{100 * self.share:.0f}-l{self.lanes}-{self.overlap}"

    def settings(self, options):
        """What differs from the configuration, in the form of --set. `options`: tokens and threads."""
        values = {
            "/trace/max_tokens": options.tokens,
            "/execution/threads": options.threads,
            "/model/hidden_size": self.size.hidden,
            "/model/moe_intermediate_size": self.size.intermediate,
            "/model/attention/num_attention_heads": max(self.size.hidden // 128, 1),
            "/model/attention/num_key_value_heads": max(self.size.hidden // 128, 1),
            "/cache/capacity_fraction": self.share,
            "/cache/overflow": "keep_event",  # a tenth of 64 experts are fewer than a token runs
            "/execution/lanes": self.lanes,
            "/execution/overlap": self.overlap,
            **POLICIES[self.policy],
        }
        return [f"{pointer}={json.dumps(value)}" for pointer, value in values.items()]


def all_cells(sizes):
    """Every combination of lanes, overlap, size and policy once; the shares of the cache go round, so
    that each meets each of the others. `sizes`: two texts such as 1024x512."""
    shapes = [Size(*map(int, text.split("x"))) for text in sizes]
    combinations = itertools.product(POLICIES, shapes, OVERLAPS, LANES)
    cells = []
    for i, (policy, size, overlap, lanes) in enumerate(combinations):
        share = CACHE_SHARES[(i + i // len(CACHE_SHARES)) % len(CACHE_SHARES)]
        cells.append(Cell(share, lanes, overlap, size, policy))
    return cells
