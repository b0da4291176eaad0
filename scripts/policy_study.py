#!/usr/bin/python3
"""Compares routing policies on the bundled trace: docs/policy_study.md and docs/policy_study.svg.

    scripts/policy_study.py             every run; writes the page and the figure (needs matplotlib)
    scripts/policy_study.py --quick     a few runs; prints their rows of the page, writes nothing

The program is $MOESIM_SIM, or else that of the release build. The same program gives the same bytes.
"""

import argparse
import os
import pathlib
import sys

import policy_study_page
from policy_study_runs import (
    BOUNDS, CAPACITIES, EXPERTS, REPOSITORY,
    all_cases, curve_cases, cut_cases, plain, points_of, registered_curves, run_all,
)  # fmt: skip

PAGE = REPOSITORY / "docs/policy_study.md"
FIGURE = REPOSITORY / "docs/policy_study.svg"

# Okabe and Ito's colours, which people with colour blindness tell apart; markers differ as well.
STYLES = {
    "cache_prior": ("#D55E00", "o"),
    "max_rank": ("#0072B2", "s"),
    "cumulative_threshold": ("#009E73", "^"),
    "odp": ("#CC79A7", "D"),
    "top_p": ("#E69F00", "v"),
    "drop_cold": ("#56B4E9", "P"),
}
# The ids of the elements follow from this text instead of chance.
SVG_OPTIONS = {"svg.hashsalt": "policy_study", "svg.fonttype": "none"}


def draw(axes, runs, curves, share, capacity):
    for curve in curves:
        colour, marker = STYLES[curve.policy]
        points = [(100 * d, 100 * m) for d, m in points_of(runs, curve, capacity)]
        axes.plot(*zip(*points), color=colour, marker=marker, markersize=4.5, linewidth=1.5,
                  label=curve.name)  # fmt: skip
    for (name, policy), dashes in zip(BOUNDS.items(), ((6, 3), (1.5, 2))):
        ratio = 100 * runs[plain(capacity, policy)].miss_ratio
        axes.axhline(ratio, color="black", linewidth=1.2, dashes=dashes,
                     label=f"{name}, the model's own experts")  # fmt: skip
    start = 100 * runs[plain(capacity)].miss_ratio
    axes.plot([0], [start], color="black", marker="*", markersize=11, linestyle="none",
              label="LRU, the model's own experts", zorder=5)  # fmt: skip
    axes.set_title(f"{share} of the experts cached ({capacity} of {EXPERTS} per layer)", fontsize=10)
    axes.set_xlabel("dropped mass, % of the router's weight")
    axes.set_xlim(-1, 45)
    axes.set_ylim(bottom=0)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)


def load_matplotlib():
    """Only the figure needs it, so that --quick works without."""
    try:
        import matplotlib
    except ImportError:
        sys.exit("the figure needs matplotlib: install the Debian package python3-matplotlib")
    matplotlib.use("svg")
    return matplotlib


def write_figure(runs, curves, file):
    """`file`: a path or a binary stream."""
    matplotlib = load_matplotlib()
    from matplotlib import pyplot

    with matplotlib.rc_context(SVG_OPTIONS):
        figure, panels = pyplot.subplots(1, len(CAPACITIES), figsize=(10, 5.2))
        for axes, (share, capacity) in zip(panels, CAPACITIES.items()):
            draw(axes, runs, curves, share, capacity)
        panels[0].set_ylabel("miss ratio, % of the accesses of plain top-k")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncol=3, frameon=False, fontsize=9)
        figure.tight_layout(rect=(0, 0.16, 1, 1))
        figure.savefig(file, format="svg", metadata={"Date": None})
        pyplot.close(figure)


def quick_rows(sim):
    """A few rows of the page, run anew: one of the first table and the middle of each curve."""
    capacity = next(iter(CAPACITIES.values()))
    curves = registered_curves(sim)
    name, chosen = cut_cases(capacity)[2]
    middle = [(curve, len(curve.values) // 2) for curve in curves]
    picked = [curve_cases(curve, capacity)[at] for curve, at in middle]
    runs = run_all(sim, [plain(capacity), chosen, *picked])
    rows = [policy_study_page.cut_row(name, runs[chosen], runs[plain(capacity)])]
    for (curve, at), which in zip(middle, picked):
        rows.append(policy_study_page.curve_row(curve, curve.values[at], runs[which]))
    return rows


def main():
    parser = argparse.ArgumentParser(description="compares routing policies on the bundled trace")
    parser.add_argument("--quick", action="store_true", help="a few runs, printed; writes nothing")
    arguments = parser.parse_args()
    sim = pathlib.Path(os.environ.get("MOESIM_SIM") or REPOSITORY / "build/release/bin/sim")
    sim = sim.resolve()
    if not sim.is_file():
        sys.exit(f"no program at {sim}; build it or set MOESIM_SIM")
    if arguments.quick:
        print(policy_study_page.rows_text(quick_rows(sim)), end="")
        return
    load_matplotlib()  # before the runs
    curves = registered_curves(sim)
    runs = run_all(sim, all_cases(curves))
    write_figure(runs, curves, FIGURE)
    PAGE.write_text(policy_study_page.page(runs, curves), encoding="utf-8")


if __name__ == "__main__":
    main()
