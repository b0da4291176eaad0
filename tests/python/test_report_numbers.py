"""The statistics of scripts/report.py, on numbers that can be checked by hand."""

import math

import numpy as np
import pytest

import report_numbers as numbers
from report_format import figures, mib, percent, signed, slug, span


def test_a_front_holds_what_nothing_beats_in_both():
    costs, gains = [3, 1, 2, 2, 4], [9, 1, 5, 4, 9]
    assert numbers.pareto_front(costs, gains) == [1, 2, 0]
    assert numbers.pareto_front([1, 1], [2, 2]) == [0]
    assert numbers.pareto_front([], []) == []


def test_every_point_is_on_the_front_or_beaten_by_one_on_it():
    random = np.random.default_rng(3)
    costs, gains = random.integers(0, 20, (2, 60))
    front = numbers.pareto_front(costs, gains)
    for i in range(60):
        assert i in front or any(costs[f] <= costs[i] and gains[f] >= gains[i] for f in front)


def test_blocks_are_as_long_as_the_cube_root_and_cover_all_tokens():
    assert [numbers.block_length(n) for n in (1, 2, 27, 28, 1000)] == [1, 2, 3, 4, 10]
    assert numbers.block_starts(1000).shape == (numbers.ROUNDS, 100)
    assert numbers.block_starts(28).shape[1] == 7


def test_block_means_are_those_of_the_drawn_tokens():
    values = np.arange(27.0) ** 2
    starts = numbers.block_starts(27, rounds=5)
    expected = [np.mean([values[(s + i) % 27] for s in row for i in range(3)]) for row in starts]
    assert numbers.bootstrap_means(values, rounds=5) == pytest.approx(expected)


def test_a_constant_has_no_interval():
    assert numbers.interval(numbers.speeds(np.full(100, 20.0))) == pytest.approx((50, 50))
    assert numbers.bootstrap_percentile(np.full(100, 7.0), 99).tolist() == [7.0] * 300


def test_the_interval_of_independent_tokens_is_that_of_the_normal_distribution():
    values = np.random.default_rng(5).normal(100, 10, 4000)
    low, high = numbers.interval(numbers.bootstrap_means(values))
    assert high - low == pytest.approx(2 * 1.96 * 10 / math.sqrt(4000), rel=0.15)
    assert low < values.mean() < high


def test_correlated_tokens_widen_the_interval():
    noise = np.random.default_rng(6).normal(0, 1, 4000)
    slow = np.convolve(noise, np.ones(10) / math.sqrt(10), "same")  # the variance stays, neighbours agree
    wide, narrow = (np.ptp(numbers.interval(numbers.bootstrap_means(v))) for v in (slow, noise))
    assert wide > 2 * narrow


def test_a_speedup_is_paired():
    wall = np.random.default_rng(7).gamma(2, 50, 500)
    speeds, slower = numbers.speeds(wall), numbers.speeds(1.1 * wall)
    assert speeds / slower == pytest.approx(1.1)  # whatever the draw
    assert np.ptp(numbers.interval(speeds)) > 0.5


def test_shares_are_of_sums():
    hits, accesses = np.array([0, 8] * 50), np.full(100, 8)
    low, high = numbers.interval(numbers.shares(hits, accesses))
    assert low < 0.5 < high
    assert set(numbers.shares([0, 0], [0, 0])) == {0}


def test_a_distribution_of_few_tokens_has_all_and_one_of_many_keeps_its_ends():
    times, shares = numbers.distribution([3, 1, 2])
    assert times.tolist() == [1, 2, 3] and shares == pytest.approx([1 / 3, 2 / 3, 1])
    values = np.random.default_rng(8).gamma(2, 50, 5000)
    times, shares = numbers.distribution(values)
    assert len(times) == 200 and (times[0], times[-1]) == (values.min(), values.max())
    assert np.all(np.diff(times) >= 0) and np.all(np.diff(shares) > 0)
    assert np.mean(values <= times[150]) == pytest.approx(shares[150], abs=1e-3)


def test_percentiles_are_interpolated():
    assert numbers.percentiles([1, 2, 3, 4], [50, 100]) == [2.5, 4]


def test_experts_are_counted_by_layer_without_absent_ones():
    ids = np.array([[[0, 2], [1, -1]], [[2, 1], [-1, -1]]])
    assert numbers.expert_counts(ids, 3).tolist() == [[1, 1, 2], [0, 1, 0]]


def test_equal_scores_choose_the_lower_id():
    assert numbers.top_k(np.array([1.0, 3.0, 3.0, 2.0, 3.0]), 3).tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "n/a"), (0, "0"), (1234.5, "1234"), (12.345, "12.3"), (1.2345, "1.23"), (0.05123, "0.0512"),
     (0.9, "0.900")],
)  # fmt: skip
def test_figures_are_significant(value, text):
    assert figures(value) == text


def test_numbers_as_text():
    assert percent(0.1234) == "12.3 %" and percent(None) == "n/a"
    assert signed(-0.05) == "\N{MINUS SIGN}5.0 %" and signed(0.05) == "+5.0 %"
    assert span((0.63, 0.659), percent) == "63.0 to 65.9 %" and span((1, 2), figures) == "1.00 to 2.00"
    assert mib(3072.0) == "3072 MiB" and mib(None) == "n/a"
    assert slug("oneplus-15r, max_tokens 64") == "oneplus-15r-max-tokens-64"
