"""What an evaluation says in the end: one table for all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase

from rich.markup import escape
from rich.table import Table

from rlad_core.evaluation import EvaluationRow, Interval

_OVER_SUBSETS = "average: mean of the subsets; all: every problem once."


def accuracy_table(rows: Mapping[str, Sequence[EvaluationRow]]) -> Table:
    """Mean@k with its interval, Pass@k, what was cut off or had no form; by subset, model below model."""
    letters = lettered(list(rows))
    several, first = len(rows) > 1, next(iter(rows.values()))
    passes = list(first[0].pass_at) if first[0].samples > 1 else []
    title = "\n".join(
        ["Accuracy in %", *(f"{letter}  {escape(label)}" for label, letter in letters.items() if several)]
    )
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("subset", overflow="fold")
    if several:
        table.add_column("")
    headings = ["problems", f"Mean@{first[0].samples}", "95%", *(f"Pass@{k}" for k in passes)]
    for heading in [*headings, "cut off", "no form"]:
        table.add_column(heading, justify="right")
    for place, line in enumerate(first):
        if several or (place in (len(first) - 2, 0) and len(first) > 1):
            table.add_section()
        for label, lines in rows.items():
            row = lines[place]
            table.add_row(
                escape(line.subset) if letters[label] == "A" else "",
                *([letters[label]] if several else []),
                str(row.prompts),
                f"{100 * row.accuracy:.1f}",
                _shown(row.interval),
                *(f"{100 * row.pass_at[k].value:.1f} [{_shown(row.pass_at[k].interval, 0)}]" for k in passes),
                f"{100 * row.cut_off:.1f}",
                f"{100 * row.format_errors:.1f}",
            )
    meaning = "Intervals are over problems. cut off: by the length limit; no form: no answer was found."
    table.caption = f"{meaning} {_OVER_SUBSETS}" if len(first) > 1 else meaning
    return table


def lettered(labels: Sequence[str]) -> dict[str, str]:
    """Models by a letter: their names may be long paths."""
    return {
        label: ascii_uppercase[place] if place < len(ascii_uppercase) else str(place)
        for place, label in enumerate(labels)
    }


def _shown(interval: Interval, digits: int = 1) -> str:
    return f"{100 * interval.low:.{digits}f}–{100 * interval.high:.{digits}f}"
