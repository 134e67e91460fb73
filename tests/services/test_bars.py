"""What takes time shows the same bar everywhere, and none where there is no terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from services.base.bars import Barred, bar


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_for_a_terminal_and_shows_names_as_they_are(terminal: bool) -> None:
    console = Console(width=120, file=StringIO(), force_terminal=terminal)
    progress = bar(console, "speed")
    with Barred(progress):
        progress.add_task("model[bold]", total=5, completed=2, speed="9 [tokens]/s")
    assert isinstance(console.file, StringIO)
    said = console.file.getvalue()
    assert bool(said.strip()) == terminal
    for words in ("model[bold]", "2/5", "9 [tokens]/s", "left"):
        assert (words in said) == terminal
