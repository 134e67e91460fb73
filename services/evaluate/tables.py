"""What an evaluation says in the end, of all models together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from string import ascii_uppercase

from rich.markup import escape
from rich.table import Table

from rlad_core.evaluation import EvaluationRow, Interval

_OVER_SUBSETS = "average: mean of the subsets; all: every problem once."


def accuracy_tables(rows: Mapping[str, Sequence[EvaluationRow]]) -> Iterator[Table]:
    """Mean@k with its interval, what was cut off or had no form, by subset, model below model; then Pass@k.

    Two, so that 80 columns hold each: of a number that is cut nothing is known.
    """
    first = next(iter(rows.values()))
    letters = lettered(list(rows))
    names = [f"{letter}  {escape(label)}" for label, letter in letters.items() if len(rows) > 1]
    title = "\n".join(["Accuracy in %", *names])
    headings = ["problems", f"Mean@{first[0].samples}", "95%", "cut off", "no form"]
    table = _table(title, headings, rows, letters, _accuracy)
    meaning = "Intervals are over problems. cut off: by the length limit; no form: no answer was found."
    table.caption = f"{meaning} {_OVER_SUBSETS}" if len(first) > 1 else meaning
    yield table
    if first[0].samples > 1 and (passes := list(first[0].pass_at)):
        yield _table("Pass@k in %, 95% intervals", [f"@{k}" for k in passes], rows, letters, _pass_at)


def _table(
    title: str,
    headings: Sequence[str],
    rows: Mapping[str, Sequence[EvaluationRow]],
    letters: Mapping[str, str],
    cells: Callable[[EvaluationRow], Iterable[str]],
) -> Table:
    several, first = len(rows) > 1, next(iter(rows.values()))
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("subset")
    if several:
        table.add_column("")
    for heading in headings:
        table.add_column(heading, justify="right")
    for place, line in enumerate(first):
        if several or (place in (len(first) - 2, 0) and len(first) > 1):
            table.add_section()
        for label, lines in rows.items():
            table.add_row(
                escape(line.subset) if letters[label] == "A" else "",
                *([letters[label]] if several else []),
                *cells(lines[place]),
            )
    return table


def _accuracy(row: EvaluationRow) -> Iterator[str]:
    yield str(row.prompts)
    yield f"{100 * row.accuracy:.1f}"
    yield _shown(row.interval)
    yield "not told" if row.cut_off is None else f"{100 * row.cut_off:.1f}"
    yield f"{100 * row.format_errors:.1f}"


def _pass_at(row: EvaluationRow) -> Iterator[str]:
    for each in row.pass_at.values():
        yield f"{100 * each.value:.1f}\n{_shown(each.interval, 0)}"


def lettered(labels: Sequence[str]) -> dict[str, str]:
    """Models by a letter: their names may be long paths."""
    return {
        label: ascii_uppercase[place] if place < len(ascii_uppercase) else str(place)
        for place, label in enumerate(labels)
    }


def _shown(interval: Interval, digits: int = 1) -> str:
    return f"{100 * interval.low:.{digits}f}–{100 * interval.high:.{digits}f}"
