"""The picture of the results: our share of what the peer takes, row by row, with the bar and the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.harness import Bar, Measure
from benchmarks.report import Result

__all__ = ["draw"]


def _share(value: float, unit: str) -> float:
    """Return time over time: what counts per second is turned around."""
    return 1 / value if unit.endswith("/s") else value


def draw(measures: Sequence[Measure], rows: Mapping[str, Result], file: Path) -> None:
    """Write an SVG of the rows that have a peer. Smaller is better in all of them."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "registry"  # the same figures give the same file
    from matplotlib import pyplot

    shown = [each for each in measures if each.key in rows and "peer" in rows[each.key].figures.samples]
    figure, axes = pyplot.subplots(figsize=(10, 0.9 + 0.27 * len(shown)), layout="constrained")
    for place, measure in enumerate(shown):
        figures = rows[measure.key].figures
        ratio = _share(figures.ratio("peer"), measure.unit)
        least, most = sorted(_share(end, measure.unit) for end in figures.ratio_spread("peer"))
        bars: list[Bar] = [bar for bar in measure.bars if bar.of == "peer"]
        met = all(bar.is_met(figures) for bar in bars)
        color = "tab:gray" if not bars else "tab:blue" if met else "tab:red"
        axes.barh(place, ratio, height=0.6, color=color, alpha=0.75)
        axes.plot([least, most], [place, place], color="black", linewidth=1)
        for bar in bars:
            limit = _share(bar.limit, measure.unit)
            axes.plot([limit, limit], [place - 0.42, place + 0.42], color="black", linewidth=2)
        if "floor" in figures.samples:
            floor = _share(figures.median("floor") / figures.median("peer"), measure.unit)
            axes.plot(floor, place, marker="D", markersize=4, color="tab:green")
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.6, linestyle=":")
    axes.set_yticks(range(len(shown)), [each.title.replace("`", "") for each in shown], fontsize=8)
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("ours over the peer, logarithmic: time, memory or bytes; less is better", fontsize=8)
    axes.set_title(
        "blue: within the bar (black stroke), red: not, grey: no bar; thin line: spread; green: the floor", fontsize=8
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
