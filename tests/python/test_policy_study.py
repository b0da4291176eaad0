"""The study of routing policies: its page is what the program gives, and says so only while true."""

import io
import os
import re
import subprocess

import pytest

import policy_study
import policy_study_page
import policy_study_runs as study

STALE = "docs/policy_study.md is stale; run scripts/policy_study.py"


@pytest.fixture(scope="module")
def written(repo_root):
    return (repo_root / "docs/policy_study.md").read_text(encoding="utf-8")


def test_quick_gives_rows_that_stand_on_the_page(repo_root, sim, written):
    done = subprocess.run(
        [repo_root / "scripts/policy_study.py", "--quick"],
        env={**os.environ, "MOESIM_SIM": str(sim), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.splitlines()
    curves = study.registered_curves(sim)
    assert len(rows) == 1 + len(curves) >= 5
    assert rows[0].count(" | ") + 1 == len(policy_study_page.CUT_HEADER)
    for row, curve in zip(rows[1:], curves):
        assert row.startswith(f"| `{curve.policy}` | {curve.parameter} ")
        assert row.count(" | ") + 1 == len(policy_study_page.CURVE_HEADER)
    for row in rows:
        assert row in written.splitlines(), STALE


def test_the_page_has_every_table(sim, written):
    curves = study.registered_curves(sim)
    for share, capacity in study.CAPACITIES.items():
        assert f"### {share} of the experts: {capacity} of 64 per layer" in written, STALE
    for value in study.LAMBDAS:
        rows = re.findall(rf"^\| `cache_prior` lambda {value}, `lru` \|", written, re.MULTILINE)
        assert len(rows) == len(study.CAPACITIES), STALE
    points = sum(len(curve.values) for curve in curves)
    assert len(re.findall(r"^\| `\w+` \| \w+ [\d.]+ \|", written, re.MULTILINE)) == 2 * points, STALE
    assert ("left out" in written) == (len(curves) < len(study.CURVES)), STALE


def test_the_figure_shows_every_curve_and_bound(repo_root, sim):
    figure = (repo_root / "docs/policy_study.svg").read_text(encoding="utf-8")
    for name in [curve.name for curve in study.registered_curves(sim)] + list(study.BOUNDS):
        assert f">{name}" in figure, STALE
    assert "<dc:date>" not in figure


def planted_run(dropped, ratio):
    return study.Run(round(1e5 * ratio), 128 * ratio, ratio, 1536 * ratio, 8, dropped, dropped, 1, 1)


@pytest.fixture
def planted():
    """Swapping saves 2 and pruning 1 of the misses for each part of the mass dropped; lambda 0.1
    is below Belady and lambda 0.05 above."""
    runs = {}
    for capacity in study.CAPACITIES.values():
        runs[study.plain(capacity)] = planted_run(0, 0.6)
        runs[study.plain(capacity, "belady")] = planted_run(0, 0.36)
        runs[study.plain(capacity, "min_bypass")] = planted_run(0, 0.35)
        for curve in study.CURVES:
            cases = study.curve_cases(curve, capacity)
            slope = {"odp": 1, "top_p": 1, "drop_cold": 2.2}.get(curve.policy, 2)
            for which, value in zip(cases, range(len(cases))):
                dropped = 0.28 * value / (len(cases) - 1)
                runs[which] = planted_run(dropped, 0.6 - slope * dropped)
        for value, ratio in zip(study.LAMBDAS, (0.45, 0.3, 0.2, 0.1, 0.1, 0.1)):
            which = study.case(capacity, policy="cache_prior", **{"lambda": value})
            runs[which] = planted_run((0.6 - ratio) / 2, ratio)
    return runs


def test_the_page_is_made_of_the_runs(planted):
    text = policy_study_page.page(planted, study.CURVES)
    assert "| `top_k`, `belady` | 36000 | 46.08 | 36.00 % | 553.0 | 40.0 % | 0.00 % |" in text
    assert "| `odp` | 58.0 % | 55.0 % | 50.0 % | 45.0 % | 40.0 % | 24.0 % |" in text
    assert "cuts the misses of LRU by 25 % at lambda 0.05, 50 % at 0.1" in text
    assert "left out" not in text
    # A program with fewer policies says so.
    some = [curve for curve in study.CURVES if curve.policy not in ("top_p", "drop_cold")]
    text = policy_study_page.page(planted, some)
    assert "left out: `top_p` (Pruning to fewer experts), `drop_cold` (Dropping cold experts)" in text


def test_a_page_whose_text_would_be_wrong_is_not_written(planted):
    planted[study.plain(16, "belady")] = planted_run(0, 0.2)
    with pytest.raises(ValueError, match="at 16 experts the page says what is wrong: lambda 0.1 is"):
        policy_study_page.page(planted, study.CURVES)


def test_the_same_runs_give_the_same_figure(planted):
    images = [io.BytesIO() for _ in range(2)]
    for image in images:
        policy_study.write_figure(planted, study.CURVES, image)
    assert images[0].getvalue() == images[1].getvalue()
    assert images[0].getvalue().startswith(b"<?xml")


def test_interpolation_takes_the_first_stretch_that_reaches_the_place():
    points = [(0, 10), (4, 8), (3, 6), (3, 5), (8, 0)]
    assert study.interpolated(points, 0) == 10
    assert study.interpolated(points, 2) == 9
    assert study.interpolated(points, 3.5) == 8.25
    assert study.interpolated(points, 5) == 3
    assert study.interpolated(points, 9) is None


def test_a_run_that_fails_is_shown(sim):
    with pytest.raises(RuntimeError, match="unknown value .*no_such"):
        study.run(sim, study.case(16, policy="no_such"))
