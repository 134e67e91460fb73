"""In processes with this folder on PYTHONPATH: the stubs stand in the place of the engines' modules, and the
clock is what `CHAOS_CLOCK` says.
"""

import importlib.util
import os
import sys
import time
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

_STUBS = {
    "services.rollout.engine": "policy_engine.py",
    "services.teacher.scoring.torch_engine": "scoring_engine.py",
}


class _Stubs(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        stub = _STUBS.get(fullname)
        if stub is None:
            return None
        return importlib.util.spec_from_file_location(fullname, Path(__file__).parent / stub)


class _Clock:
    """`time.time`, so many seconds off as the file says, which is read once a second."""

    def __init__(self, file: str) -> None:
        self._file, self._real, self._monotonic = file, time.time, time.monotonic
        self._off, self._look_at = 0.0, 0.0

    def now(self) -> float:
        if (monotonic := self._monotonic()) >= self._look_at:
            self._look_at = monotonic + 1
            try:
                with open(self._file) as file:
                    self._off = float(file.read())
            except (OSError, ValueError):  # it is being written
                pass
        return self._real() + self._off


if clock_file := os.environ.get("CHAOS_CLOCK"):
    clock = _Clock(clock_file)
    time.time = clock.now
    time.time_ns = lambda: int(clock.now() * 1e9)
sys.meta_path.insert(0, _Stubs())
