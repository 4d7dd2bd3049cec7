"""Measure the library beside its peers and beside the floor, as ratios of one run.

    python -m benchmarks [--only GROUP[,ROW…]] [--rounds 7] [--quick] [--list]

Prints a table, and writes JSON with every sample and a picture to benchmarks/results; a full run also writes the table of
docs/benchmarks.md. A figure that misses its bar fails nothing; what could not be measured does. Method: docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.harness import Measure, NotMeasured, selected, take
from benchmarks.inputs import Inputs
from benchmarks.machine import facts
from benchmarks.plot import draw
from benchmarks.report import Result, Results, put_between_markers, table
from benchmarks.stage import ROOT, Stage
from benchmarks.suite import MEASURES, trials

_FULL, _QUICK = 7, 1


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="groups or rows, with commas between them; --list shows them")
    parser.add_argument("--rounds", type=int, help=f"samples of each side; {_FULL}, and {_QUICK} in a quick run")
    parser.add_argument("--quick", action="store_true", help="every row, with few rounds and small sizes; writes no page")
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks/results", help="where to write")
    options = parser.parse_args(arguments)
    if options.rounds is None:
        options.rounds = _QUICK if options.quick else _FULL
    if options.rounds < 1:
        parser.error("--rounds is expected to be at least 1")
    try:
        options.measures = selected(MEASURES, [word for word in options.only.split(",") if word])
    except ValueError as error:
        parser.error(str(error))
    return options


def _measure(measures: list[Measure], rounds: int, results: Results, *, quick: bool) -> list[str]:
    """Measure the rows one after the other; return the keys of those that could not be."""
    failed = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as temporary, Stage(Path(temporary), quick=quick) as stage:
        inputs = Inputs(stage)
        for measure in measures:
            began = time.monotonic()
            print(f"{measure.key} …", end=" ", file=sys.stderr, flush=True)
            try:
                results.rows[measure.key] = Result.now(take(measure, trials(measure, stage, inputs), rounds, warm_up=not quick))
            except NotMeasured as error:
                results.rows.pop(measure.key, None)  # an older figure is not this run's
                failed.append(measure.key)
                print(f"not measured: {error}", file=sys.stderr)
            else:
                print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
            results.write(MEASURES)
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for; return 1 when something could not be measured."""
    options = _parsed(arguments)
    if options.list:
        for measure in MEASURES:
            bars = "; ".join(bar.text(measure.unit) for bar in measure.bars) or f"reported: {measure.only_reported}"
            print(f"{measure.key:40} {measure.title} [{bars}]")
        return 0
    began = time.monotonic()
    name = "quick" if options.quick else "full"
    results = Results(options.results / f"{name}.json", facts())
    if results.drops_others:
        print(f"{results.file} is of another machine or other versions, and begins anew", file=sys.stderr)
    failed = _measure(options.measures, options.rounds, results, quick=options.quick)
    if results.rows:
        draw(MEASURES, results.rows, options.results / f"{name}.svg")
        if not options.quick and options.results == ROOT / "benchmarks/results":
            put_between_markers(ROOT / "docs/benchmarks.md", list(MEASURES), results)
    print(table(options.measures, results.rows))
    for measure in options.measures:
        for note in results.rows[measure.key].figures.notes if measure.key in results.rows else ():
            print(f"{measure.key}: {note}")
    print(f"{len(options.measures)} rows in {(time.monotonic() - began) / 60:.1f} minutes; figures in {results.file}")
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before all was measured"))  # so that the folder and server go
    sys.exit(main())
