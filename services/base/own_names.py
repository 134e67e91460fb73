"""Names for places that take two things of one name for one: trackers, a shared cluster."""

from __future__ import annotations

import secrets
from pathlib import Path

from services.base.whole_files import write_whole


def own_name(file: Path, name: str) -> str:
    """The name and six characters of its own, as a file keeps them: the same whenever it is asked for.

    Raises:
        OSError: it cannot be read or written.
    """
    kept = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
    if not kept:
        kept = f"{name}-{secrets.token_hex(3)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, f"{kept}\n")
    return kept
