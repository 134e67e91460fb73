"""What stands beside an exported policy once it is whole: of which run it is, after how many steps."""

from __future__ import annotations

import json
from pathlib import Path

from rlad_core.config import RunConfig
from services.base.whole_files import write_whole

FOLDER, _NOTE = "export", "rlad.json"


def note(config: RunConfig, folder: Path) -> None:
    """Say that the policy in `folder` is whole, and that of the finished run.

    Raises:
        OSError: it cannot be written.
    """
    told = {"run": config.name, "seed": config.seed, "steps": config.total_steps}
    write_whole(folder / _NOTE, json.dumps(told))


def take_back(folder: Path) -> None:
    """What is there is written anew."""
    (folder / _NOTE).unlink(missing_ok=True)


def is_whole(run_dir: Path, config: RunConfig) -> bool:
    """Whether the policy is there that the run has after its last step.

    False where nobody says, as in folders of earlier versions.
    """
    try:
        return bool(json.loads((run_dir / FOLDER / _NOTE).read_text())["steps"] == config.total_steps)
    except (OSError, ValueError, KeyError, TypeError):
        return False
