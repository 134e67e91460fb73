"""What is wrong with a recipe, in words: the field's path, its value, and what to write instead."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any


class _NotSet(Enum):
    """The value of a field that a recipe doesn't mention."""

    NOT_SET = "not set"


NOT_SET = _NotSet.NOT_SET
_SHOWN = 60
"""Characters of a value that a message has."""


@dataclass(frozen=True)
class Problem:
    """One thing to change in a recipe."""

    path: str
    """The field, as ``--set`` would name it, e.g. ``stages.0.objective.alpha``."""
    value: Any
    """What the recipe says there; ``NOT_SET`` where it says nothing."""
    advice: str
    """What is wrong with it and what to write."""

    def __str__(self) -> str:
        end = "" if self.advice.endswith((".", "?")) else "."
        return f"{self.path} ({shown(self.value)}): {self.advice}{end}"


class ConfigError(ValueError):
    """A recipe was refused; ``str(error)`` lists every problem, one a line."""

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(source, self.problems)

    def __str__(self) -> str:
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        return "\n".join([f"{self.source}: {count}", *(f"  - {problem}" for problem in self.problems)])


def shown(value: Any) -> str:
    """A value as YAML would have it, cut where it is long; a text in its middle: paths end with names."""
    if value is NOT_SET:
        return "not set"
    if isinstance(value, str):
        text = repr(value)
        return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 3]}...{text[3 - _SHOWN + _SHOWN // 3 :]}"
    text = json.dumps(value, default=str)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
