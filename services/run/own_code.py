"""The user's code in a run's folder: copied when a run begins, and used from there when it is resumed.

runs/NAME/recipe.yaml              reward: code/3f9a.../reward.py:score
runs/NAME/code/3f9a.../reward.py   as it was; files of one folder stay together, so they find each other
runs/NAME/code/origin.json         path at home -> the copy and its SHA-256
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rlad_core.config import RunConfig

FOLDER, ORIGIN = "code", "origin.json"


def keep(config: RunConfig, run_dir: Path) -> dict[str, Any]:
    """Copy the code that a recipe names into the run's folder.

    Returns:
        The recipe's values, with the places of the copies, relative to the run's folder.
    """
    sources = config.code
    if (run_dir / FOLDER).exists():  # of a start that failed; its copies may be what was just read
        shutil.rmtree(run_dir / FOLDER)
    if not sources:
        return config.model_dump(mode="json")
    origin: dict[str, dict[str, str]] = {}
    for path, text in sources.items():
        beside = "".join(sources[each] for each in sorted(sources) if Path(each).parent == Path(path).parent)
        copy = Path(FOLDER, _digest(beside)[:12], Path(path).name)
        (run_dir / copy).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / copy).write_text(text, encoding="utf-8")
        origin[path] = {"copy": str(copy), "sha256": _digest(text)}
    (run_dir / FOLDER / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
    return _with_places(config, {path: each["copy"] for path, each in origin.items()})


def rename(run_dir: Path, renamed: Callable[[str], str]) -> None:
    """Note other paths for the files at home, which may be relative."""
    file = run_dir / FOLDER / ORIGIN
    origin = {renamed(path): each for path, each in json.loads(file.read_text()).items()}
    file.write_text(json.dumps(origin, indent=2) + "\n")


def kept(config: RunConfig, run_dir: Path, home: Path | None = None) -> tuple[RunConfig, list[str]]:
    """The recipe with the copies that a run's folder has, in place of the files at home.

    Args:
        home: that relative paths of these start from; None: where one types.

    Returns:
        The recipe, and a sentence for each file that has changed since.
    """
    file = run_dir / FOLDER / ORIGIN
    if not file.is_file():
        return config, []
    noted: dict[str, dict[str, str]] = json.loads(file.read_text())
    origin = {str((home or Path.cwd()) / path): each for path, each in noted.items()}
    changed = [
        f"{path} has changed since the run began, which goes on with its copy, {run_dir / each['copy']}"
        for path, each in origin.items()
        if Path(path).is_file() and _read(Path(path)) != each["sha256"]
    ]
    copies = {path: str(run_dir / each["copy"]) for path, each in origin.items()}
    return RunConfig.model_validate(_with_places(config, copies)), changed


def _with_places(config: RunConfig, copies: Mapping[str, str]) -> dict[str, Any]:
    places = {}
    for place in config.code_places:
        path, _, name = place.rpartition(":")
        if path in copies:
            places[place] = f"{copies[path]}:{name}"

    def replaced(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: replaced(each) for key, each in value.items()}
        if isinstance(value, list):
            return [replaced(each) for each in value]
        return places.get(value, value) if isinstance(value, str) else value

    values: dict[str, Any] = replaced(config.model_dump(mode="json"))
    return values


def _read(file: Path) -> str | None:
    """The digest of a file's text; None: it has none that can be read, as it had when the run began."""
    try:
        return _digest(file.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
