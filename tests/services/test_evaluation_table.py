"""The table that an evaluation ends with."""

from __future__ import annotations

from io import StringIO

import numpy as np
from rich.console import Console

from rlad_core.evaluation import evaluation_rows
from services.cli.console import out
from services.evaluate.progress import AnswerProgress
from services.evaluate.tables import accuracy_tables


def test_labels_and_subsets_are_text_to_the_terminal() -> None:
    labels, subset = ["models/[bold]", "models/[/red]"], "sums [easy]"
    rows = evaluation_rows([subset] * 4, ["a", "a", "b", "b"], [True, False, True, True], [False] * 4)
    shown = Console(width=160, file=StringIO(), record=True)
    for table in accuracy_tables(dict.fromkeys(labels, rows)):
        shown.print(table)
    text = shown.export_text()
    assert all(label in text for label in labels)
    assert subset in text
    assert "75.0" in text


def test_no_number_is_cut_where_80_columns_are_all_there_is() -> None:
    rng = np.random.default_rng(0)
    problems = [f"p{place}" for place in range(40) for _ in range(64)]
    right = [[bool(each) for each in rng.random(len(problems)) < 0.3] for _ in range(12)]
    ks = [2, 4, 8, 16, 32, 64]
    rows = {
        f"runs/number-{place}/export": evaluation_rows(
            ["2_people"] * len(problems), problems, each, [False] * len(problems), ks=ks
        )
        for place, each in enumerate(right)
    }
    shown = type(out)(width=80, file=StringIO(), record=True)
    for table in accuracy_tables(rows):
        shown.print(table)
    text = shown.export_text()
    assert "…" not in text
    assert all(f"@{k} " in text for k in ks)
    for of_model in rows.values():
        [line, *_] = of_model
        values = [line.accuracy, *(each.value for each in line.pass_at.values())]
        assert all(f" {100 * value:.1f} " in text for value in values)
        assert f" {100 * line.interval.low:.1f}–{100 * line.interval.high:.1f} " in text


def test_where_nobody_told_what_was_cut_off_the_table_says_so() -> None:
    problems = [f"p{place}" for place in range(120)]
    subsets = ["2_people"] * 60 + ["3_people"] * 60
    told = evaluation_rows(subsets, problems, [True] * 120, [False] * 119 + [True])
    silent = evaluation_rows(subsets, problems, [True] * 120, None)
    assert [row.truncated for row in told] == [0, 1, 1, 1]
    assert all(row.truncated is None and row.cut_off is None for row in silent)
    shown = type(out)(width=80, file=StringIO(), record=True)
    for table in accuracy_tables({"told": told, "silent": silent}):
        shown.print(table)
    lines = shown.export_text().splitlines()
    assert sum("not told" in line for line in lines) == len(silent)
    assert not any("…" in line for line in lines)


def test_a_speed_is_shown_where_lengths_are_told() -> None:
    def shown(*lengths: int | None) -> str:
        console = Console(width=120, file=StringIO(), record=True)
        with AnswerProgress(console, "m", done=0, total=len(lengths)) as progress:
            for length in lengths:
                progress.told([{"correct": True, "tokens": length}])
        return console.export_text().splitlines()[-1]

    assert "tokens/s  right 100%" in shown(7, 7)
    assert "m  3 of 3  right 100%" in shown(7, None, 7)
