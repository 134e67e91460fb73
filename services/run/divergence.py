"""Whether a run has ended because its numbers were not finite, which it would come to again.

runs/NAME/diverged.json    that it has, and what the learner said; none where the run goes on
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from services.learner.divergence import DivergedError

DIVERGED = "diverged.json"
# The learner is another process: of its error there is the traceback, which names the class in full.
_RAISED = re.compile(
    rf"^{re.escape(f'{DivergedError.__module__}.{DivergedError.__qualname__}')}: ", re.MULTILINE
)


def note_divergence(run_dir: Path, whole: str, said: str) -> None:
    """Leave in the run's folder that it has diverged, where that is what it failed with.

    Args:
        whole: of the failure, with all stacks.
        said: for people.

    Raises:
        OSError: it cannot be written.
    """
    if _RAISED.search(whole):
        (run_dir / DIVERGED).write_text(json.dumps({"said": said}) + "\n", encoding="utf-8")


def has_diverged(run_dir: Path) -> bool:
    """Whether the last attempt at the run has ended so."""
    return (run_dir / DIVERGED).is_file()
