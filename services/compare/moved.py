"""Paths of packed runs: what lies beside a suite's recipe lies elsewhere on another machine.

A packed run names it relative to the recipe's folder, and is compared with the recipe as it would be there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlad_core.config import RunConfig
from rlad_core.sections.paths import FOLDER, expanded


def home_of(recipe: str) -> Path | None:
    """The folder of a recipe, which relative paths in it start from; None: it ships, and names no file."""
    file = expanded(recipe)
    return file.absolute().parent if file.is_file() else None


def relative(value: Any, *folders: Path | None) -> Any:
    """Values of a recipe, with each path below one of these folders relative to it."""
    if isinstance(value, dict):
        return {key: relative(each, *folders) for key, each in value.items()}
    if isinstance(value, list):
        return [relative(each, *folders) for each in value]
    for folder in folders:
        if isinstance(value, str) and folder is not None and value.startswith(f"{folder}/"):
            return value.removeprefix(f"{folder}/")
    return value


def as_packed(config: RunConfig, home: Path | None, run: Path) -> RunConfig:
    """The recipe as it would be read from a packed run's folder.

    Args:
        home: of the recipe, see `home_of`.
        run: the folder; first, as it may lie below the recipe's.
    """
    return RunConfig.model_validate(
        relative(config.model_dump(mode="json"), run, home), context={FOLDER: run}
    )
