"""Published benchmarks by name: where their files are on the hub, and the prompts in those that are here.

In: names of suites, a folder with files as the hub has them. Out: prompts of the shipped tasks, each of which
declares its benchmarks (`suites.py` in its folder). Downloads nothing: what is missing is named with the
command that fetches it.
Called by: the command `rlad evaluate --suite`. `prompts` reads the files; the names alone load little.
"""

from __future__ import annotations

import importlib
import importlib.util

from rlad_core import tasks
from rlad_core.tasks.suite import Suite

__all__ = ["SUITES", "Suite"]


def _suites() -> dict[str, Suite]:
    places = [f"{tasks.__name__}.{name}.suites" for name in tasks.SECTIONS]
    declared = [importlib.import_module(place).SUITES for place in places if importlib.util.find_spec(place)]
    return {suite.name: suite for several in declared for suite in several}


SUITES = _suites()
"""By name."""
