"""The text and tables of docs/policy_study.md; scripts/policy_study.py writes them."""

from policy_study_runs import (
    AT_DROPPED, BOUNDS, CAPACITIES, CONFIG, CURVES, EXPERTS,
    case, curve_cases, cut_cases, interpolated, plain, points_of,
)  # fmt: skip

CUT_HEADER = ["routing, eviction", "misses", "misses per token", "miss ratio", "MiB per token",
              "misses cut", "dropped mass", "p95 of it", "agreement"]  # fmt: skip
CURVE_HEADER = ["policy", "parameter", "dropped mass", "miss ratio", "misses per token",
                "experts per token and layer", "agreement"]  # fmt: skip
SWAPPING = ["cache_prior", "max_rank", "cumulative_threshold"]


def percent(share, digits=2):
    return "" if share is None else f"{100 * share:.{digits}f} %"


def rows_text(rows):
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def table(header, rows):
    return rows_text([header, ["---"] * len(header), *rows])


def cut_row(name, run, baseline):
    return [
        name,
        f"{run.misses}",
        f"{run.misses_per_token:.2f}",
        percent(run.miss_ratio),
        f"{run.mib_per_token:.1f}",
        percent(1 - run.misses / baseline.misses, 1),
        percent(run.dropped),
        percent(run.p95_dropped),
        percent(run.agreement),
    ]


def cut_rows(runs, capacity):
    baseline = runs[plain(capacity)]
    return [cut_row(name, runs[which], baseline) for name, which in cut_cases(capacity)]


def curve_row(curve, value, run):
    return [
        f"`{curve.policy}`",
        f"{curve.parameter} {value}",
        percent(run.dropped),
        percent(run.miss_ratio),
        f"{run.misses_per_token:.2f}",
        f"{run.experts:.2f}",
        percent(run.agreement),
    ]


def curve_rows(runs, curves, capacity):
    return [
        curve_row(curve, value, runs[which])
        for curve in curves
        for value, which in zip(curve.values, curve_cases(curve, capacity))
    ]


def at_belady(runs, curve, capacity):
    """The dropped mass at which a curve reaches Belady's miss ratio; None where it never does."""
    points = [(ratio, dropped) for dropped, ratio in points_of(runs, curve, capacity)]
    return interpolated(points, runs[plain(capacity, "belady")].miss_ratio)


def equal_rows(runs, curves, capacity):
    rows = []
    for curve in curves:
        points = points_of(runs, curve, capacity)
        ratios = [percent(interpolated(points, dropped), 1) for dropped in AT_DROPPED]
        rows.append([f"`{curve.policy}`", *ratios, percent(at_belady(runs, curve, capacity), 1)])
    return rows


class Reading:
    """The figures that the text quotes. Raises ValueError where the text would be wrong."""

    def __init__(self, runs, curves, capacity):
        self._runs = runs
        self._capacity = capacity
        self._curves = {curve.policy: curve for curve in curves}
        self.belady = runs[plain(capacity, "belady")]
        self.bypass = runs[plain(capacity, "min_bypass")]
        self.baseline = runs[plain(capacity)]
        self.saturated = runs[curve_cases(self._curves["cache_prior"], capacity)[-1]]

    def prior(self, value):
        return self._runs[case(self._capacity, policy="cache_prior", **{"lambda": value})]

    def cut(self, value):
        return percent(1 - self.prior(value).misses / self.baseline.misses, 0)

    def ratio(self, policy, dropped):
        return interpolated(points_of(self._runs, self._curves[policy], self._capacity), dropped)

    def swapping_gap(self):
        """The widest gap between the policies that swap, in points, at equal dropped mass."""
        at = [[self.ratio(policy, dropped) for policy in SWAPPING] for dropped in AT_DROPPED]
        return f"{100 * max(max(ratios) - min(ratios) for ratios in at):.1f}"

    def at_belady(self, policy):
        dropped = at_belady(self._runs, self._curves[policy], self._capacity)
        self.hold(dropped is not None, f"{policy} reaches Belady's line")
        return percent(dropped, 1)

    def hold(self, true, claim):
        if not true:
            raise ValueError(f"at {self._capacity} experts the page says what is wrong: {claim}")

    def check(self):
        """What the text says without figures."""
        last = [self._runs[curve_cases(self._curves[policy], self._capacity)[-1]]
                for policy in SWAPPING]  # fmt: skip
        self.hold(len({(run.misses, run.dropped) for run in last}) == 1, "the swapping curves meet")
        for dropped in AT_DROPPED:
            swaps = [self.ratio(policy, dropped) for policy in SWAPPING]
            self.hold(swaps[1] <= swaps[0] + 5e-4 <= swaps[2] + 5e-4, "max rank is the lowest")
            prunes = self.ratio("odp", dropped)
            self.hold(dropped < 0.1 or prunes > max(swaps), "pruning misses more from 10 % on")


def summary(runs, curves):
    quarter, half = (Reading(runs, curves, capacity) for capacity in CAPACITIES.values())
    for reading in (quarter, half):
        reading.check()
        reading.hold(reading.prior(0.5).misses > 0.9 * reading.prior(0.3).misses, "lambda saturates")
    quarter.hold(quarter.prior(0.05).misses > quarter.belady.misses, "lambda 0.05 is above Belady")
    quarter.hold(quarter.prior(0.1).misses < quarter.belady.misses, "lambda 0.1 is below Belady")
    half.hold(half.prior(0.05).misses > half.belady.misses, "lambda 0.05 is above Belady")
    half.hold(half.prior(0.1).misses < half.belady.misses, "lambda 0.1 is below Belady")
    return f"""\
- **Cache-Prior** cuts the misses of LRU by {quarter.cut(0.05)} at lambda 0.05, {quarter.cut(0.1)} at 0.1 and {quarter.cut(0.2)} at 0.2 with a quarter of
  the experts cached, and by {half.cut(0.05)}, {half.cut(0.1)} and {half.cut(0.2)} with half. From 0.3 on little changes.
- **It passes the oracle** between lambda 0.05 and 0.1, where {quarter.at_belady("cache_prior")} (a quarter) and {half.at_belady("cache_prior")} (half) of the router's weight
  are dropped. MIN with bypass is the least that eviction alone can miss for the experts that the model chose ({percent(quarter.bypass.miss_ratio, 1)} and {percent(half.bypass.miss_ratio, 1)}),
  and Belady, which keeps whatever it reads, comes close ({percent(quarter.belady.miss_ratio, 1)} and {percent(half.belady.miss_ratio, 1)}). A policy that changes the choice is not bound by them.
  The published figure has this shape, with perplexity for the price.
- **The three policies that swap nearly share one line.** At equal dropped mass their miss ratios are within {quarter.swapping_gap()} points at a
  quarter and {half.swapping_gap()} at half, max rank lowest and the cumulative threshold highest. Here, how much is swapped decides, not by which
  rule. The paper prefers Cache-Prior by perplexity, which a replay cannot see.
- **They end in one point:** lambda 1, M = {EXPERTS} and p_thr = 1 all mean that every resident goes before every absent expert outside
  the best two ({percent(quarter.saturated.miss_ratio, 1)} misses for {percent(quarter.saturated.dropped, 1)} of the weight; {percent(half.saturated.miss_ratio, 1)} for {percent(half.saturated.dropped, 1)}).
- **Pruning** by the ratio rule of MC-MoE takes away accesses instead of redirecting them. From 10 % of dropped mass on it misses more
  than any policy that swaps, and it reaches Belady's line at {quarter.at_belady("odp")} and {half.at_belady("odp")}. Below that, with a quarter of the experts, it is as
  good: at 2 % {percent(quarter.ratio("odp", 0.02), 1)} against {percent(quarter.ratio("cache_prior", 0.02), 1)} of Cache-Prior ({percent(half.ratio("odp", 0.02), 1)} against {percent(half.ratio("cache_prior", 0.02), 1)} with half).
"""


def summary_of_more(runs, curves):
    """What there is to say of the curves that a program may lack."""
    quarter, half = (Reading(runs, curves, capacity) for capacity in CAPACITIES.values())
    policies = [curve.policy for curve in curves]
    text = ""
    if "top_p" in policies:
        text += f"""\
- **Fewer experts for every token** (the best k_max, by `top_p` at P = 1) lie near pruning by ratio: {percent(quarter.ratio("top_p", 0.1), 1)} against
  {percent(quarter.ratio("odp", 0.1), 1)} at 10 % of dropped mass ({percent(half.ratio("top_p", 0.1), 1)} against {percent(half.ratio("odp", 0.1), 1)}).
"""
    if "drop_cold" in policies:
        for reading in (quarter, half):
            for dropped in AT_DROPPED[:4]:
                drops, swaps = (reading.ratio(name, dropped) for name in ("drop_cold", "max_rank"))
                reading.hold(drops < swaps, "drop_cold misses least at equal dropped mass")
        text += f"""\
- **Dropping only what is absent** aims the pruning at the misses, and up to 15 % of dropped mass it misses least of all: {percent(quarter.ratio("drop_cold", 0.1), 1)}
  against {percent(quarter.ratio("cache_prior", 0.1), 1)} of Cache-Prior at 10 % ({percent(half.ratio("drop_cold", 0.1), 1)} against {percent(half.ratio("cache_prior", 0.1), 1)}). What it drops has no substitute, which dropped
  mass does not see.
"""
    return text


def caveats(runs):
    mass = runs[plain(next(iter(CAPACITIES.values())))].ran_mass
    return f"""\
- **Divergence is not quality.** Dropped mass says how far the routing is from the model's own choice, nothing about the text. It is
  blind to what replaces the dropped expert, and it treats a swap and a pruned expert alike. It ranks settings of one kind of policy
  on one model; no such number carries over to another model ([metrics.md](metrics.md#routing)).
- **Open loop.** The logits are recorded under the model's own routing. The cache reacts to every swap exactly; later layers and
  tokens do not.
- **A small model, briefly trained, on short texts** ([traces/README.md](../traces/README.md)). Its router is flat (the best eight
  of {EXPERTS} experts hold {percent(mass, 0)} of the probability), so even a small lambda swaps much. Compare models and policies at equal
  dropped mass, never at equal lambda.
- **Published pairs** at half of the experts, as readers of the paper (arXiv 2412.00099) report them: misses from 35 to 16 %
  (Qwen1.5-MoE-A2.7B), 28 to 7 % (DeepSeek-V2-Lite), 22 to 9 % (Phi-3.5-MoE) and 40 to 21 % (Mixtral-8x7B). The reduction here is of
  that size; whether its price is, the replay does not say.
- **Misses are not time.** MiB per token hold the sizes of OLMoE-1B-7B in fp16 (12 MiB an expert), which are assumed. Simulate a device
  for tokens per second.
"""


def missing_note(curves):
    """Says which curves this program could not make."""
    lacking = [curve for curve in CURVES if curve not in curves]
    if not lacking:
        return ""
    names = ", ".join(f"`{curve.policy}` ({curve.name})" for curve in lacking)
    return f"\nNot in this program, so left out: {names}.\n"


def page(runs, curves):
    """The whole page. Raises ValueError where its text does not fit the runs."""
    cut = "\n".join(
        f"### {share} of the experts: {capacity} of {EXPERTS} per layer\n\n"
        f"{table(CUT_HEADER, cut_rows(runs, capacity))}"
        for share, capacity in CAPACITIES.items()
    )
    equal_header = ["policy", *(percent(dropped, 0) for dropped in AT_DROPPED), "at Belady's line"]
    equal = "\n".join(
        f"{share} of the experts:\n\n{table(equal_header, equal_rows(runs, curves, capacity))}"
        for share, capacity in CAPACITIES.items()
    )
    points = "\n".join(
        f"### {share}\n\n{table(CURVE_HEADER, curve_rows(runs, curves, capacity))}"
        for share, capacity in CAPACITIES.items()
    )
    bounds = " and ".join(f"`{policy}`" for policy in BOUNDS.values())
    return f"""\
# Routing policies on the bundled trace

<!-- Written by scripts/policy_study.py: change that and run it again, not this page. -->

How many cache misses each way of routing saves, and how far it goes from the model's own choice for it: the comparison of the
Cache-Prior paper (arXiv 2412.00099) on `traces/reference-moe-small.safetensors`, a small model of the shape of OLMoE-1B-7B (16
layers, {EXPERTS} experts, top 8; 2560 tokens). The page and its figure are written by one command, `scripts/policy_study.py`; a few
of its rows come with

```sh
scripts/policy_study.py --quick
```

Every run is `{CONFIG}` without a device, so: one cache per layer, empty at the start and never reset, `lru`, visits judged as
a whole, the best two experts always kept by the policies that swap (their default `keep_top`). Only policy, its parameter and
capacity change. The *miss ratio* is misses over the accesses of plain top-k (tokens x layers x k), also where a policy runs fewer
experts. {bounds} run on the model's own selections.

## What Cache-Prior cuts

{cut}
*Dropped mass* is the share of the router's weight that belongs to experts which the model chose and which did not run, as a mean
over visits and as 95th percentile; agreement is the share of the model's own choice that ran.

## Misses against dropped mass

![Miss ratio against dropped mass for each policy, beside Belady and MIN with bypass](policy_study.svg)

Start at the star, which is the model's own routing with LRU. A policy moves down (fewer misses) and pays by moving right. The
horizontal lines are the best that eviction can do without touching the routing. What drops more than 45 % is in the tables only.
{missing_note(curves)}
### At equal dropped mass

Miss ratio at a given dropped mass, by linear interpolation between the points below (empty: the policy never goes so far), and the
dropped mass at which it reaches Belady's miss ratio.

{equal}
## Reading

{summary(runs, curves)}{summary_of_more(runs, curves)}
## What this does not show

{caveats(runs)}
## The points

{points}"""
