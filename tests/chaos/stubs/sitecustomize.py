"""Puts the stubs in the place of the engines' modules, in processes with this folder on PYTHONPATH."""

import importlib.util
import sys
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


sys.meta_path.insert(0, _Stubs())
