"""The benchmarks' arithmetic, selection and reports on samples that were made up; no time is asserted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.forking import Parent
from benchmarks.harness import SIDES, Bar, Figures, Measure, NotMeasured, Sample, Side, Trial, selected, take
from benchmarks.plot import draw
from benchmarks.report import Result, Results, put_between_markers, table
from benchmarks.shapes import bert_products, gpt2_products, trained
from benchmarks.suite import MEASURES
from benchmarks.text import real_lines

ROOT = Path(__file__).parent.parent

TIMED = Measure("some.timed", "something `timed`", "s", peer="them", floor="least", bars=(Bar("peer", 0.5), Bar("floor", 1.1)))
RATE = Measure("some.rate", "something per second", "tokens/s", peer="them", bars=(Bar("peer", 1.25, at_least=True),))
REPORTED = Measure("other.reported", "something else", "of weights", peer="them", only_reported="nobody asks")


def figures(**samples: list[float]) -> Figures:
    return Figures({side: samples[side] for side in SIDES if side in samples})


def told(order: list[Side], side: Side, values: list[float]) -> Trial:
    waiting: Iterator[float] = iter(values)

    def trial() -> Sample:
        order.append(side)
        return Sample(next(waiting))

    return trial


def test_medians_ratios_and_spreads() -> None:
    # Paired by round: 1/4, 2/2, 6/3. The median of ours is 2, of theirs 3.
    those = figures(ours=[1.0, 2.0, 6.0], peer=[4.0, 2.0, 3.0])
    assert those.median("ours") == 2
    assert those.ratio("peer") == pytest.approx(2 / 3)
    assert those.ratio_spread("peer") == (0.25, 2.0)
    assert those.spread("peer") == (2.0, 4.0)
    assert those.count() == 3


@pytest.mark.parametrize(
    ("bar", "met", "text"),
    [
        (Bar("peer", 0.5), True, "≤ 0.5 of the peer"),
        (Bar("peer", 0.49), False, "≤ 0.49 of the peer"),
        (Bar("peer", 0.5, at_least=True), True, "≥ 0.5 of the peer"),
        (Bar("peer", 0.51, at_least=True), False, "≥ 0.51 of the peer"),
        (Bar("floor", 2.0), True, "≤ 2 of the floor"),
        (Bar("floor", 1.9), False, "≤ 1.9 of the floor"),
        (Bar("ours", 0.004), True, "≤ 4 ms"),
        (Bar("ours", 0.003), False, "≤ 3 ms"),
        (Bar("above floor", 0.0021), True, "≤ 2.1 ms above the floor"),
        (Bar("above floor", 0.0019), False, "≤ 1.9 ms above the floor"),
    ],
)
def test_a_bar_is_held_to_the_medians(bar: Bar, met: bool, text: str) -> None:
    assert bar.is_met(figures(ours=[0.004], peer=[0.008], floor=[0.002])) is met
    assert bar.text("s") == text


def test_each_round_takes_every_side_once_and_begins_with_another() -> None:
    order: list[Side] = []
    trials = {side: told(order, side, [1.0, 2.0, 3.0, 4.0]) for side in SIDES}
    taken = take(TIMED, trials, 4)
    assert taken.samples == {side: [1.0, 2.0, 3.0, 4.0] for side in SIDES}
    rounds = [tuple(order[number : number + 3]) for number in range(0, 12, 3)]
    assert rounds == [
        ("ours", "peer", "floor"),
        ("peer", "floor", "ours"),
        ("floor", "ours", "peer"),
        ("ours", "peer", "floor"),
    ]


def test_a_round_for_warming_up_is_not_counted() -> None:
    measure = Measure("some.process", "a process", "s", peer="them", only_reported="an example", warm_up=True)
    taken = take(measure, {"ours": told([], "ours", [9.0, 1.0, 2.0]), "peer": told([], "peer", [9.0, 3.0, 4.0])}, 2)
    assert taken.samples == {"ours": [1.0, 2.0], "peer": [3.0, 4.0]}


@pytest.mark.parametrize(
    ("same", "ours", "theirs", "fails"),
    [
        ("close", [1.0, 2.0], [1.0, 2.00001], False),
        ("close", [1.0, 2.0], [1.0, 2.1], True),
        ("close", [1.0, float("nan")], [1.0, 2.0], True),
        ("equal", [1.0, 2.0], [1.0, 2.0], False),
        ("equal", [1.0, 2.0], [1.0, 2.00001], True),
        ("told", [1.0, 2.0], [1.0, 3.0], False),
        ("told", [1.0, 2.0], [1.0, 3.0, 4.0], True),
    ],
)
def test_outputs_of_both_sides_are_held_together(
    tmp_path: Path, same: str, ours: list[float], theirs: list[float], fails: bool
) -> None:
    def trial(name: str, values: list[float]) -> Trial:
        def taken() -> Sample:
            np.save(tmp_path / f"{name}.npy", np.array(values))
            return Sample(1.0, tmp_path / f"{name}.npy")

        return taken

    measure = Measure("some.output", "outputs", "s", only_reported="an example", same=same)  # type: ignore[arg-type]
    trials: dict[Side, Trial] = {"ours": trial("ours", ours), "peer": trial("peer", theirs)}
    if fails:
        with pytest.raises(NotMeasured, match=r"some\.output"):
            take(measure, trials, 1)
    else:
        taken = take(measure, trials, 2)
        assert taken.notes == (["50.0% of ours and peer's are the same"] if same == "told" else [])
        assert not list(tmp_path.glob("*.npy"))  # they are large


def test_a_row_that_should_compare_outputs_and_gets_none_is_not_measured() -> None:
    measure = Measure("some.output", "outputs", "s", only_reported="an example", same="equal")
    with pytest.raises(NotMeasured, match="two sides"):
        take(measure, {"ours": told([], "ours", [1.0]), "peer": told([], "peer", [1.0])}, 1)


def test_rows_are_selected_by_group_and_by_key() -> None:
    suite = [TIMED, RATE, REPORTED]
    assert selected(suite, []) == suite
    assert selected(suite, ["some"]) == [TIMED, RATE]
    assert selected(suite, ["other.reported", "some.rate"]) == [RATE, REPORTED]
    for word in ("som", "some.tim", "nothing"):
        with pytest.raises(ValueError, match=word):
            selected(suite, [word])


def test_every_row_has_a_bar_or_says_that_it_is_only_reported() -> None:
    assert len({measure.key for measure in MEASURES}) == len(MEASURES)
    for measure in MEASURES:
        assert bool(measure.bars) != bool(measure.only_reported), measure.key
        for bar in measure.bars:
            assert bar.of != "peer" or measure.peer, measure.key
            assert bar.of not in ("floor", "above floor") or measure.floor, measure.key


def test_the_suite_has_the_groups_of_the_table() -> None:
    assert list(dict.fromkeys(measure.group for measure in MEASURES)) == [
        "startup",
        "first-logits",
        "load",
        "memory",
        "forward",
        "training",
        "generation",
        "tokenization",
        "fetch",
        "resolve",
    ]


def rows() -> dict[str, Result]:
    return {
        TIMED.key: Result(figures(ours=[0.02, 0.03, 0.04], peer=[0.1, 0.1, 0.1], floor=[0.02] * 3), "2026-01-02 03:04 UTC"),
        RATE.key: Result(figures(ours=[150.0] * 3, peer=[100.0, 120.0, 150.0]), "2026-01-03 03:04 UTC"),
        REPORTED.key: Result(figures(ours=[0.01], peer=[1.0]), "2026-01-02 03:04 UTC"),
    }


def test_the_table_shows_figures_ratios_spreads_and_whether_bars_are_met() -> None:
    text = table([TIMED, RATE, REPORTED], rows(), markdown=True).splitlines()
    assert text[2] == (
        "| something `timed` | 30 ms | 100 ms | 20 ms | 0.30 | 0.20 to 0.40 | 1.50 | 1.00 to 2.00 | 3 "
        "| ≤ 0.5 of the peer; ≤ 1.1 of the floor | met, **not met** |"
    )
    assert "| 150 | 120 |  | 1.25 | 1.00 to 1.50 |" in text[3]
    assert text[4].endswith("| 1 | reported |  |")
    plain = table([TIMED, RATE, REPORTED], rows()).splitlines()
    assert "`" not in plain[1]
    assert plain[1].endswith("met, not met")


def test_results_keep_every_sample_and_rows_that_are_not_measured_again(tmp_path: Path) -> None:
    suite, machine = [TIMED, RATE, REPORTED], {"processor": "one"}
    results = Results(tmp_path / "results/full.json", machine)
    results.rows = rows()
    results.write(suite)
    written = json.loads(results.file.read_text(encoding="utf-8"))
    assert list(written["rows"]) == [measure.key for measure in suite]
    assert written["rows"][TIMED.key]["samples"]["ours"] == [0.02, 0.03, 0.04]
    assert written["rows"][TIMED.key]["medians"]["ours"] == 0.03
    assert written["rows"][TIMED.key]["bars"] == [
        {"bar": "≤ 0.5 of the peer", "met": True},
        {"bar": "≤ 1.1 of the floor", "met": False},
    ]
    again = Results(results.file, machine)
    assert not again.drops_others
    assert again.rows == results.rows
    other = Results(results.file, {"processor": "another"})
    assert other.drops_others
    assert other.rows == {}


def test_a_page_gets_the_table_between_its_markers(tmp_path: Path) -> None:
    machine = dict.fromkeys(
        ("processor", "cores", "memory", "python", "torch", "transformers", "huggingface_hub", "tokenizers"), "x"
    )
    results = Results(tmp_path / "full.json", machine)
    results.rows = rows()
    results.rows[TIMED.key].figures.note("floor: by a fast kernel")
    page = tmp_path / "page.md"
    begin, end = "<!-- written by benchmarks: begin -->", "<!-- written by benchmarks: end -->"
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n", encoding="utf-8")
    for _ in range(2):  # the second time over the first
        put_between_markers(page, [TIMED, RATE, REPORTED], results)
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n{begin}\n")
    assert text.endswith(f"{end}\nafter\n")
    assert "old" not in text
    assert table([TIMED, RATE, REPORTED], results.rows, markdown=True) in text
    assert "2026-01-02 to 2026-01-03" in text
    assert "- something `timed`: floor: by a fast kernel" in text
    page.write_text("no markers", encoding="utf-8")
    with pytest.raises(ValueError, match=r"page\.md"):
        put_between_markers(page, [TIMED], results)


def test_the_page_of_the_docs_has_the_markers(tmp_path: Path) -> None:
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert text.index("<!-- written by benchmarks: begin -->") < text.index("<!-- written by benchmarks: end -->")


def test_the_picture_is_an_svg_with_every_row(tmp_path: Path) -> None:
    draw([TIMED, RATE, REPORTED], rows(), tmp_path / "some.svg")
    text = (tmp_path / "some.svg").read_text(encoding="utf-8")
    assert "<svg" in text
    for measure in (TIMED, RATE, REPORTED):
        assert measure.title.replace("`", "") in text


def test_the_lines_are_real_and_always_the_same() -> None:
    lines = real_lines(3000)
    assert lines == real_lines(3000)
    assert len(set(lines)) == 3000
    assert all(len(line.split()) >= 4 for line in lines)


def test_products_are_those_of_the_models() -> None:
    # Twice the multiplications and additions of published counts: a layer of BERT has 12 H^2 weights, its pooler H^2.
    bert = bert_products({"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}, 8, 128)
    weights = sum(inputs * outputs * count for _, inputs, outputs, count, _ in bert["shapes"])
    assert weights == 12 * 12 * 768**2 + 768**2
    gpt2 = gpt2_products({"n_embd": 768, "n_layer": 12, "n_head": 12}, 1, 32, 50257, new=128)
    for shapes in (gpt2["shapes"], gpt2["step_shapes"]):
        assert sum(inputs * outputs * count for _, inputs, outputs, count, _ in shapes) == 12 * 12 * 768**2 + 768 * 50257
    assert {rows for rows, *_ in gpt2["step_shapes"]} == {1}
    # A backward pass has two products for each of the forward pass, with as many operations.
    work = sum(rows * inputs * outputs * count for rows, inputs, outputs, count, _ in bert["shapes"])
    both = trained(bert)["shapes"]
    assert sum(rows * inputs * outputs * count for rows, inputs, outputs, count, _ in both) == 3 * work


@pytest.mark.slow
def test_a_row_is_measured_from_end_to_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "startup", "--rounds", "1", "--results", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "full.json").read_text(encoding="utf-8"))
    assert set(written["rows"]) == {"startup.import", "startup.info"}
    for row in written["rows"].values():
        assert {side: len(values) for side, values in row["samples"].items()} == {"ours": 1, "peer": 1, "floor": 1}
        assert all(value > 0 for values in row["samples"].values() for value in values)
    assert "python" in written["machine"]
    assert (tmp_path / "full.svg").exists()
    assert "registry info gpt2" in done.stdout


def test_what_cannot_be_measured_fails_the_run_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks import __main__ as command

    good = Measure("some.good", "good", "s", peer="them", bars=(Bar("peer", 0.1),))
    bad = Measure("some.bad", "bad", "s", peer="them", bars=(Bar("peer", 0.1),))

    def broken() -> Sample:
        raise NotMeasured("a process ended with 1")

    def trials(measure: Measure, *_: object) -> dict[Side, Trial]:
        return {"ours": broken if measure is bad else lambda: Sample(1.0), "peer": lambda: Sample(2.0)}

    monkeypatch.setattr(command, "MEASURES", (bad, good))
    monkeypatch.setattr(command, "trials", trials)
    assert command.main(["--results", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "a process ended with 1" in shown.err
    assert set(json.loads((tmp_path / "full.json").read_text(encoding="utf-8"))["rows"]) == {"some.good"}
    assert command.main(["--results", str(tmp_path), "--only", "some.good"]) == 0  # misses its bar, and is measured
    assert "not met" in capsys.readouterr().out


def test_a_quick_run_forks_its_processes(tmp_path: Path) -> None:
    (program := tmp_path / "program.py").write_text("import os, sys; print(os.getppid(), sys.argv[1]); 1 / int(sys.argv[1])")
    parent = Parent(tmp_path, dict(os.environ))
    first, second = (parent.run(program, number).split() for number in "12")
    assert first[0] == second[0] != str(os.getpid()) and (first[1], second[1]) == ("1", "2")
    with pytest.raises(NotMeasured, match="(?s)ended with 1: .*ZeroDivisionError"):
        parent.run(program, "0")
    parent.close()
