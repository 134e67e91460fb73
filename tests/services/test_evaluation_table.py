"""The table that an evaluation ends with."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from rlad_core.evaluation import evaluation_rows
from services.evaluate.tables import accuracy_table


def test_labels_and_subsets_are_text_to_the_terminal() -> None:
    labels, subset = ["models/[bold]", "models/[/red]"], "sums [easy]"
    rows = evaluation_rows([subset] * 4, ["a", "a", "b", "b"], [True, False, True, True], [False] * 4)
    shown = Console(width=160, file=StringIO(), record=True)
    shown.print(accuracy_table(dict.fromkeys(labels, rows)))
    text = shown.export_text()
    assert all(label in text for label in labels)
    assert subset in text
    assert "75.0" in text
