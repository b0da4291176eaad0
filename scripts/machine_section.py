"""The part of docs/validation.md that shows the validation matrix, and its figure."""

import statistics
from pathlib import Path

from whole_files import write_whole

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs/validation.md"
BEGIN = "<!-- matrix: begin -->\n"
END = "<!-- matrix: end -->\n"
# Okabe and Ito's colours, which people with colour blindness tell apart; markers differ as well.
STYLES = {"none": ("#0072B2", "o"), "expert": ("#D55E00", "s"), "projection": ("#009E73", "^")}
SVG_OPTIONS = {"svg.hashsalt": "validation_machine", "svg.fonttype": "none"}


def percent(value, sign=False):
    return f"{100 * value:+.1f} %" if sign else f"{100 * value:.1f} %"


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def time_per_read(flash):
    by_depth = flash.get("dev_cmd_us_by_depth")
    if not by_depth:
        return f"{flash.get('dev_cmd_us', 0)} us a read"
    times = ", ".join(f"{us}" for _, us in by_depth)
    depths = ", ".join(f"{depth:.0f}" for depth, _ in by_depth)
    return f"{times} us a read with {depths} in flight"


def machine_table(results):
    device = results["device"]
    flash, dram, cpu = device["flash"], device["dram"], device["cpu"]
    rows = [
        ["machine", f"{device['description']}"],
        ["date, program", f"{results['date']}, {results['program']['version']} at "
                          f"{results['program']['commit']}, kernels {results['simd']}"],
        ["flash", f"{flash['bw_gbps']} GB/s, {time_per_read(flash)}, "
                  f"{flash['host_delay_us']} us on the host"],
        ["memory", f"{dram['cpu_core_gbps']} GB/s by one thread, {dram['cpu_gbps']} by all"],
        ["kernels", f"fp16 {cpu['f16_kernel_gbps']} GB/s by {cpu['threads']} threads, "
                    f"{cpu['layer_overhead_us']} us a layer beside products"],
        ["runs", f"{results['rounds']} of each cell, {results['tokens']} measured tokens each, "
                 f"{results['threads']} thread that computes; {results['summary']['attempts']} "
                 f"attempts"],
    ]  # fmt: skip
    return table(["", ""], rows)


def groups_table(cells):
    """Errors by each value of each axis: where a systematic one would show."""
    axes = {
        "overlap": lambda c: c["overlap"],
        "lanes": lambda c: str(c["lanes"]),
        "cache": lambda c: f"{100 * c['cache_share']:.0f} %",
        "expert": lambda c: f"{c['expert_mib']:.2f} MiB",
        "policy": lambda c: c["policy"],
    }
    rows = []
    for axis, value_of in axes.items():
        for value in dict.fromkeys(sorted(map(value_of, cells))):
            errors = [c["error"]["mean"] for c in cells if value_of(c) == value]
            rows.append([axis, value, str(len(errors)), percent(statistics.median(errors), True),
                         percent(statistics.median(map(abs, errors))),
                         percent(max(map(abs, errors)))])  # fmt: skip
    return table(["axis", "value", "cells", "median error", "median size", "largest size"], rows)


PRODUCTS = {"dense": "outside the experts", "resident_experts": "experts that were resident",
            "read_experts": "experts just read"}  # fmt: skip

PARTS = {"compute": "products", "flash_stall": "waits", "overhead": "the rest"}


def parts_table(cells):
    """What takes longer for real than simulated: products by where the weights were and waits for
    reads, and how fast the machine was, all of each run for itself."""
    rows = []
    for kind, name in PRODUCTS.items():
        runs = [(cell["overlap"], run[kind]) for cell in cells for run in cell["products"] if run[kind]]
        if not runs:
            continue
        rates = sorted(run["real_gbps"] for _, run in runs)
        middle = statistics.median_low(run["simulated_gbps"] for _, run in runs)
        longer = [(overlap, run["simulated_gbps"] / run["real_gbps"] - 1) for overlap, run in runs]
        rows.append([f"products, {name}: longer by", f"{at(rates, 0.1):.1f}, {at(rates, 0.5):.1f}, {at(rates, 0.9):.1f}",
                     f"{middle:.1f}", *by_overlap(longer)])  # fmt: skip
    waits = [(cell["overlap"], longer) for cell in cells for longer in cell["waits_longer"]
             if longer is not None]  # fmt: skip
    rows.append(["waits for reads: longer by", "", "", *by_overlap(waits)])
    for key, name in (("stream_gbps", "memory"), ("read_gbps", "reads of 1 MiB")):
        slower = [(cell["overlap"], 1 / speed[key] - 1) for cell in cells
                  for speed in cell["machine_speed"] if speed]  # fmt: skip
        rows.append([f"the machine beside its calibration, {name}: longer by", "", "", *by_overlap(slower)])
    for part, name in PARTS.items():
        rows.append([f"share of the missing time, {name}", "", "", *shares(cells, part)])
    header = ["", "real GB/s (10th, 50th, 90th percentile of runs)", "simulated GB/s"]
    return table([*header, *(f"overlap {overlap}" for overlap in STYLES)], rows)


def shares(cells, part):
    """Of what the real tokens take longer than the simulated ones, summed over the cells."""
    of = []
    for overlap in STYLES:
        those = [cell for cell in cells if cell["overlap"] == overlap]
        missing = sum(cell["real_ms"]["mean"] - cell["simulated_ms"]["mean"] for cell in those)
        longer = sum(c["real_parts_ms"][part] - c["simulated_parts_ms"][part] for c in those)
        of.append(f"{100 * longer / missing:.0f} %" if missing else "")
    return of


def by_overlap(pairs):
    of = {overlap: [value for other, value in pairs if other == overlap] for overlap in STYLES}
    return [percent(statistics.median(values), True) if values else "" for values in of.values()]


def at(ordered, share):
    return ordered[round(share * (len(ordered) - 1))]


def cells_table(cells):
    rows = []
    for cell in cells:
        parts = {side: cell[f"{side}_parts_ms"] for side in ["real", "simulated"]}
        rows.append([
            cell["policy"], f"{cell['expert_mib']:.2f}", f"{100 * cell['cache_share']:.0f} %",
            str(cell["lanes"]), cell["overlap"], percent(cell["hit_rate"]),
            f"{cell['real_ms']['mean']:.2f}", f"{cell['simulated_ms']['mean']:.2f}",
            percent(cell["error"]["mean"], True), percent(cell["noise"]),
            percent(cell["error"]["p50"], True), percent(cell["error"]["p99"], True),
            percent(cell["error"]["per_token_mape"]),
            f"{parts['real']['compute']:.2f} / {parts['simulated']['compute']:.2f}",
            f"{parts['real']['flash_stall']:.2f} / {parts['simulated']['flash_stall']:.2f}",
        ])  # fmt: skip
    header = ["policy", "MiB", "cache", "lanes", "overlap", "hits", "real ms", "simulated ms",
              "error", "noise", "p50", "p99", "per token", "compute", "stall"]  # fmt: skip
    return table(header, rows)


def section(results):
    summary, cells = results["summary"], results["cells"]
    counts = "equal" if summary["all_counts_match"] else "NOT EQUAL"
    outputs = "equal" if summary["all_outputs_match"] else "NOT EQUAL"
    return f"""{machine_table(results)}
Over {summary['cells']} cells the median absolute error of the mean time per token is
**{percent(summary['median_abs_error'])}**, the largest **{percent(summary['largest_abs_error'])}**. The real runs of a cell differ by
{percent(summary['median_noise'])} in the median; {summary['beyond_twice_noise']} cells are off by more than twice their own noise. Token by token the median of the cells'
mean absolute errors is {percent(summary['median_per_token_mape'])}. Hits, misses, evictions, bytes and reads of simulation and reality are {counts} in
every cell; the outputs are {outputs} to those of the reference, which computes the first {results['reference_tokens']} tokens, and from
round to round in all of them. {summary['runs_beyond_tolerance']} of the {summary['runs']} runs were more than {percent(summary['tolerance'])} off the calibrated speed.

![Real and simulated time per token of every cell](validation_machine.svg)

{groups_table(cells)}
Where the time goes beyond the simulation, medians over the runs with each overlap. Products are compared with what the simulation
has for each of them while nothing is read; the speed of the machine was measured around the runs:

{parts_table(cells)}
Every cell; `noise` is the largest distance of a real run's mean from that of the one in the middle, `per token` the mean absolute
error token by token, `compute` and `stall` real / simulated in ms a token:

{cells_table(cells)}"""


def draw(results, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    plt.rcParams.update(SVG_OPTIONS)
    cells = results["cells"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4.6))
    top = 1.1 * max(max(c["real_ms"]["mean"], c["simulated_ms"]["mean"]) for c in cells)
    low = 0.9 * min(min(c["real_ms"]["mean"], c["simulated_ms"]["mean"]) for c in cells)
    left.plot([low, top], [low, top], color="black", linewidth=1)
    for share, shade in ((0.15, "#EEEEEE"), (0.05, "#D5D5D5")):
        left.fill_between([low, top], [low * (1 - share), top * (1 - share)],
                          [low * (1 + share), top * (1 + share)], color=shade, linewidth=0,
                          label=f"within {100 * share:.0f} %", zorder=0)  # fmt: skip
    for overlap, (colour, marker) in STYLES.items():
        of = [c for c in cells if c["overlap"] == overlap]
        left.plot([c["real_ms"]["mean"] for c in of], [c["simulated_ms"]["mean"] for c in of],
                  marker, color=colour, markersize=5, label=f"overlap {overlap}")  # fmt: skip
    left.set(xscale="log", yscale="log", xlim=(low, top), ylim=(low, top),
             xlabel="real, ms per token", ylabel="simulated, ms per token")  # fmt: skip
    for axis in (left.xaxis, left.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(ticker.NullFormatter())
    left.legend(fontsize=8, frameon=False)
    ordered = sorted(cells, key=lambda c: c["error"]["mean"])
    for place, cell in enumerate(ordered):
        noise = 100 * cell["noise"]
        right.plot([-noise, noise], [place, place], color="#BBBBBB", linewidth=4, zorder=1,
                   label="noise of the real runs" if place == 0 else None)  # fmt: skip
        colour, marker = STYLES[cell["overlap"]]
        right.plot([100 * cell["error"]["mean"]], [place], marker, color=colour, markersize=5)
    for edge in (-15, -5, 0, 5, 15):
        right.axvline(edge, color="black", linewidth=0.6, linestyle="-" if edge == 0 else ":")
    right.set(xlabel="error of the mean time per token, %", ylabel="cells by error", yticks=[])
    right.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def put_into_page(text, page):
    whole = page.read_text()
    head, rest = whole.split(BEGIN)
    tail = rest.split(END)[1]
    write_whole(page, head + BEGIN + text + END + tail)
