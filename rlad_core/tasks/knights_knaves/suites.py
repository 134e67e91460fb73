"""The published puzzles as a benchmark, a subset for each number of people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlad_core.tasks.base import Prompt
from rlad_core.tasks.suite import Suite


def prompt(row: Mapping[str, Any], _: str) -> Prompt:
    """The prompt of one row.

    Raises:
        ValueError, SyntaxError: it is no such puzzle.
    """
    # Here, so that whoever only wants the names of suites does not load the task.
    from rlad_core.tasks.knights_knaves.published import from_row
    from rlad_core.tasks.knights_knaves.task import prompt_for

    return prompt_for(from_row(dict(row)))


SUITES = (
    Suite(
        "kk",
        ("K-and-K/knights-and-knaves",),
        ("test/people*", "**/test/people*", "**/*ppl/test.*", "people*", "**/*ppl*"),
        prompt,
        # As Logic-RL ships them.
        loose=("*ppl/test.*", "*/*ppl/test.*", "*ppl*", "*/*ppl*"),
    ),
)
