"""A published benchmark: a task declares those that it can read, in `suites.py` of its folder."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rlad_core.tasks.base import Prompt

TEST_FILES = ("data/test-*", "test-*", "test.*", "**/test-*", "**/test.*", "test/*", "**/test/*")
"""What test splits are called in most data sets of the hub."""
ALL_FILES = ("**/*",)
"""For sets that have one split, whatever it is called."""


@dataclass(frozen=True)
class Suite:
    """One benchmark.

    Attributes:
        name: as ``--suite`` has it.
        repositories: data sets of the hub that have it; the first is the one that is fetched.
        files: patterns of its files in such a data set, the first that fits counts.
        prompt: makes the prompt of one row, reported under the suite's name or a subset of its own; raises
            ValueError where the row is none.
        problems: how many it has as it was published; None: that differs from copy to copy.
        loose: patterns of files of other origin, in the folder that ``--data`` names.
    """

    name: str
    repositories: tuple[str, ...]
    files: tuple[str, ...]
    prompt: Callable[[Mapping[str, Any], str], Prompt]
    problems: int | None = None
    loose: tuple[str, ...] = ()

    def command(self, folder: str) -> str:
        """Fetches it into the folder that ``--data`` names."""
        local = shlex.quote(f"{folder.rstrip('/')}/{self.name}")
        return f"hf download {self.repositories[0]} --repo-type dataset --local-dir {local}"
