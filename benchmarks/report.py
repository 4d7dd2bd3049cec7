"""What a run leaves: a table, a JSON file with every sample, and the table of a page between its markers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import Figures, Measure, Side

__all__ = ["Result", "Results", "put_between_markers", "table"]

_BEGIN = "<!-- written by benchmarks: begin -->"
_END = "<!-- written by benchmarks: end -->"
_COLUMNS = ("measure", "ours", "peer", "floor", "ours/peer", "spread", "ours/floor", "spread", "n", "bar", "")


@dataclass(frozen=True)
class Result:
    """The figures of a row, and when they were taken."""

    figures: Figures
    measured: str

    @classmethod
    def now(cls, figures: Figures) -> Result:
        """Return figures that were just taken."""
        return cls(figures, datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))


class Results:
    """The rows that were measured on a machine, in a file; rows that are measured again replace the older ones."""

    def __init__(self, file: Path, machine: Mapping[str, str]) -> None:
        self.file, self.machine = file, dict(machine)
        self.rows: dict[str, Result] = {}
        stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        #: Whether rows of another machine, or of other versions, lie there, and are left out from now on.
        self.drops_others = bool(stored) and stored["machine"] != self.machine
        if stored and not self.drops_others:
            for key, row in stored["rows"].items():
                self.rows[key] = Result(Figures(row["samples"], row["notes"]), row["measured"])

    def write(self, measures: Iterable[Measure]) -> None:
        """Write every row, in the order of the suite, with its samples and what can be computed from them."""
        rows = {}
        for measure in measures:
            if (result := self.rows.get(measure.key)) is None:
                continue
            figures = result.figures
            medians = {side: figures.median(side) for side in figures.samples}
            others: list[Side] = [side for side in figures.samples if side != "ours"]
            rows[measure.key] = {
                "title": measure.title,
                "unit": measure.unit,
                "peer": measure.peer,
                "floor": measure.floor,
                "medians": medians,
                "ratios": {side: figures.ratio(side) for side in others},
                "bars": [{"bar": bar.text(measure.unit), "met": bar.is_met(figures)} for bar in measure.bars],
                "only_reported": measure.only_reported,
                "notes": figures.notes,
                "measured": result.measured,
                "samples": figures.samples,
            }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"machine": self.machine, "rows": rows}, indent=1, ensure_ascii=False)
        self.file.write_text(text + "\n", encoding="utf-8")


def _value(value: float, unit: str) -> str:
    if unit == "s":
        return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms" if value >= 1e-4 else f"{value * 1e6:.3g} µs"
    if unit.startswith("of "):
        return f"{value:.3f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 100 else f"{value:.2g}" if value < 0.1 else f"{value:,.0f}"


def _cells(measure: Measure, result: Result) -> list[str]:
    figures = result.figures
    cells = [f"{measure.title}" + (f" ({measure.unit})" if measure.unit != "s" else "")]
    for side in ("ours", "peer", "floor"):
        cells.append(_value(figures.median(side), measure.unit) if side in figures.samples else "")
    for side in ("peer", "floor"):
        if side in figures.samples:
            least, most = figures.ratio_spread(side)
            cells += [_ratio(figures.ratio(side)), f"{_ratio(least)} to {_ratio(most)}"]
        else:
            cells += ["", ""]
    bars = "; ".join(bar.text(measure.unit) for bar in measure.bars) or "reported"
    met = ", ".join("met" if bar.is_met(figures) else "**not met**" for bar in measure.bars)
    return [*cells, str(figures.count()), bars, met]


def table(measures: Iterable[Measure], rows: Mapping[str, Result], *, markdown: bool = False) -> str:
    """Return the rows that were measured, as aligned text or for a page."""
    lines = [list(_COLUMNS), *(_cells(each, rows[each.key]) for each in measures if each.key in rows)]
    if markdown:
        lines.insert(1, ["---"] + ["--:"] * 8 + ["---"] * 2)
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    plain = [[cell.replace("**", "").replace("`", "") for cell in line] for line in lines]
    widths = [max(len(line[column]) for line in plain) for column in range(len(_COLUMNS))]
    numbers = range(1, 9)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in plain
    )


def _page(measures: list[Measure], results: Results) -> str:
    """Return what stands between the markers of a page: the machine, the table, what peers and floors are, notes."""
    machine = results.machine
    dates = sorted(result.measured[:10] for result in results.rows.values())
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    versions = ", ".join(
        f"{name} {machine[name]}" for name in ("python", "torch", "transformers", "huggingface_hub", "tokenizers")
    )
    there = [measure for measure in measures if measure.key in results.rows]
    sides = [f"| {each.title} | {each.peer or 'none'} | {each.floor or 'none'} |" for each in there]
    noted = [f"- {each.title}: {note}" for each in there for note in results.rows[each.key].figures.notes]
    head = f"{when}, {machine['processor']}, {machine['cores']} cores, {machine['memory']}; {versions}."
    parts = [
        head,
        table(measures, results.rows, markdown=True),
        "What is the peer and what the floor:",
        "\n".join(["| measure | peer | floor |", "|---|---|---|", *sides]),
    ]
    return "\n\n".join([*parts, *(["What the processes noted:", "\n".join(noted)] if noted else [])])


def put_between_markers(page: Path, measures: list[Measure], results: Results) -> None:
    """Write the results into a page, between the two lines that say so.

    Raises:
        ValueError: when the page has not both of them.
    """
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{page.name} is expected to have the lines {_BEGIN} and {_END}, but has not")
    page.write_text(f"{before}{begin}\n\n{_page(measures, results)}\n\n{end}{after}", encoding="utf-8")
