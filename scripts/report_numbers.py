"""The statistics of a report: bootstrap over tokens, Pareto fronts, distributions. NumPy only.

Tokens that follow each other miss alike, because they find the same cache. The bootstrap therefore
draws blocks of consecutive tokens (circular block bootstrap: Politis and Romano, 1992), of n^(1/3)
tokens, and the same blocks for every run of the same tokens, so that two runs are compared token by
token. Its draws have a fixed seed: equal inputs give equal bytes.
"""

import numpy as np

ROUNDS = 1000
SEED = 1
LEVEL = 0.95


def block_length(tokens):
    """The cube root, rounded up, as `sim compare` has it."""
    return next(length for length in range(1, tokens + 1) if length**3 >= tokens)


def block_starts(tokens, rounds=ROUNDS, seed=SEED):
    """First tokens of the blocks of each round: integers [rounds, blocks]."""
    blocks = -(-tokens // block_length(tokens))
    return np.random.default_rng(seed).integers(0, tokens, size=(rounds, blocks))


def bootstrap_means(values, rounds=ROUNDS, seed=SEED):
    """Means of resampled blocks of values [tokens]: [rounds]. Equal lengths draw equal blocks."""
    values = np.asarray(values, dtype=float)
    length = block_length(len(values))
    around = np.concatenate([values, values[:length]])
    sums = np.concatenate([[0.0], np.cumsum(around)])
    starts = block_starts(len(values), rounds, seed)
    return (sums[starts + length] - sums[starts]).mean(axis=1) / length


def bootstrap_percentile(values, percent, rounds=300, seed=SEED):
    """The same of a percentile: [rounds]."""
    values = np.asarray(values, dtype=float)
    length = block_length(len(values))
    starts = block_starts(len(values), rounds, seed)
    places = (starts[:, :, None] + np.arange(length)) % len(values)
    return np.percentile(values[places.reshape(rounds, -1)], percent, axis=1)


def interval(samples, level=LEVEL):
    """The middle share `level` of the samples: (low, high)."""
    tail = 50 * (1 - level)
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def speeds(wall_ms):
    """Resampled tokens a second, from the times of tokens in ms: [rounds]."""
    return 1000 / bootstrap_means(wall_ms)


def shares(parts, wholes):
    """Resampled sum(parts) / sum(wholes), as a hit rate; 0 where there is nothing to share: [rounds]."""
    part, whole = bootstrap_means(parts), bootstrap_means(wholes)
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def pareto_front(costs, gains):
    """Places of the points that no other beats in both, by cost; of equal points the first."""
    best, front = -np.inf, []
    for place in sorted(range(len(costs)), key=lambda i: (costs[i], -gains[i], i)):
        if gains[place] > best:
            front.append(place)
            best = gains[place]
    return front


def distribution(values, points=200):
    """(sorted values, part at or below): all of them, or as many quantiles where there are more."""
    values = np.sort(np.asarray(values, dtype=float))
    if len(values) <= points:
        return values, np.arange(1, len(values) + 1) / len(values)
    # Half the points in the last tenth: the tail is what one looks at.
    body = np.linspace(0, 0.9, points // 2, endpoint=False)
    shares = np.concatenate([body, np.linspace(0.9, 1, points - points // 2)])
    return np.quantile(values, shares), shares


def percentiles(values, percents):
    """By linear interpolation, as docs/metrics.md has it."""
    return [float(v) for v in np.percentile(np.asarray(values, dtype=float), percents)]


def expert_counts(ids, experts):
    """ids [tokens, layers, k], -1 where absent -> how often each was chosen: [layers, experts]."""
    counts = np.zeros((ids.shape[1], experts), dtype=np.int64)
    for layer in range(ids.shape[1]):
        chosen = ids[:, layer].reshape(-1)
        counts[layer] = np.bincount(chosen[chosen >= 0], minlength=experts)
    return counts


def top_k(scores, k):
    """The k best of the last axis, the lower id where equal."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]
