"""What a check found, in the folder of a run: a run that is resumed uses the same prompts.

runs/NAME/prompts.json    how many are used, and their hash
runs/NAME/dropped.jsonl   what is not used: file and line, reason, and the id of what is a prompt; also worked
                          solutions of prompts that have others
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rlad_core.prompt_checks.findings import Checked, Dropped
from rlad_core.prompt_stream import Selection

USED, DROPPED = "prompts.json", "dropped.jsonl"


def write_record(checked: Checked, folder: Path) -> None:
    """Write both files."""
    write_dropped([*checked.dropped, *checked.unfit], folder / DROPPED)
    used = {
        "training": checked.training,
        "held_out": checked.held_out,
        "longest": checked.longest,
        "shortened": checked.shortened,
        "unknown": checked.unknown,
        "shortened_to": checked.selection.limit,
        "digest": checked.digest,
        "solutions": checked.solutions,
    }
    (folder / USED).write_text(json.dumps(used, indent=2) + "\n")


def write_dropped(dropped: Iterable[Dropped], file: Path) -> None:
    """Write what is not used, one a line."""
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(asdict(each)) + "\n" for each in dropped)


def read_record(folder: Path) -> Checked | None:
    """What the first start of a run found; None: it has no record of it.

    Raises:
        ValueError: the record is broken.
    """
    if not (folder / USED).is_file():
        return None
    try:
        used = json.loads((folder / USED).read_text())
        lines = (folder / DROPPED).read_text(encoding="utf-8").splitlines()
        left_out = [Dropped(**json.loads(line)) for line in lines]
        dropped, unfit = (
            [each for each in left_out if (each.solution is None) == whole] for whole in (True, False)
        )
        training, held_out = (
            frozenset(each.prompt_id for each in dropped if each.use == use and each.prompt_id is not None)
            for use in ("training", "evaluation")
        )
        return Checked(
            training=used["training"],
            held_out=used["held_out"],
            longest=used["longest"],
            shortened=used["shortened"],
            unknown=used.get("unknown", 0),  # which older runs did not count
            dropped=dropped,
            digest=used["digest"],
            unfit=unfit,
            solutions=used.get("solutions", ""),  # which older runs had none of
            selection=Selection(
                training,
                held_out,
                frozenset(each.solution for each in unfit if each.solution is not None),
                used["shortened_to"],
            ),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / USED} or {DROPPED} beside it is broken: {error!r}") from error
