"""Which of the responses that an evaluation's folder keeps were asked for last.

FOLDER/asked.json   {"samples": 8, "prompts": [["prompt id", "subset"], ...]}

A folder keeps what was ever asked of its model: other files under one name, or more samples of fewer prompts.
Together they make no table.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from services.base.whole_files import write_whole

_FILE = "asked.json"


def keep_asked(folder: Path, prompts: Sequence[tuple[str, str]], samples: int) -> None:
    """Say what is asked for now; whoever reads the folder sees that or what was asked before, never half.

    Args:
        prompts: id and subset of each.
        samples: of each of them.

    Raises:
        OSError: it cannot be written.
    """
    write_whole(folder / _FILE, json.dumps({"samples": samples, "prompts": prompts}) + "\n")


def asked_of(folder: Path, answers: pa.Table) -> pa.Table:
    """Those of ANSWERS that were asked for last; all of them where the folder does not say.

    Raises:
        ValueError: what says it is broken; names it.
    """
    file = folder / _FILE
    if not file.is_file():
        return answers
    told = told_in(file)
    try:
        prompts, samples = {(prompt, subset) for prompt, subset in told["prompts"]}, int(told["samples"])
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{file} is broken: {error!r}") from error
    keys = answers.select(["prompt_id", "subset", "sample_index"]).to_pylist()
    wanted = [(key["prompt_id"], key["subset"]) in prompts and key["sample_index"] < samples for key in keys]
    return answers.filter(pa.array(wanted, pa.bool_()))


def told_in(file: Path) -> dict[str, Any]:
    """The object that a file of JSON holds.

    Raises:
        ValueError: it holds none; names it.
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is broken: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{file} is broken: it should be an object, not {told!s:.40}")
    return told
