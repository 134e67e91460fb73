"""A teacher's accepted responses as data to train on: a Parquet file of chats, as other trainers read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.tasks import Prompt
from services.base.whole_files import whole

_MESSAGE: Final = pa.struct([("role", pa.string()), ("content", pa.string())])
CHATS: Final = pa.schema(
    [
        ("messages", pa.list_(_MESSAGE)),
        ("prompt", pa.list_(_MESSAGE)),
        ("completion", pa.list_(_MESSAGE)),
        ("solution", pa.string()),
        ("answer", pa.string()),
        ("gold_json", pa.string()),
        ("prompt_id", pa.string()),
        ("task", pa.string()),
        ("subset", pa.string()),
        ("reward", pa.float32()),
        ("teacher", pa.string()),
    ]
)
"""One accepted response a row: ``messages`` is the whole chat, ``prompt`` it without the last turn, which is
``completion`` as a message and ``solution`` as a text; TRL's SFTTrainer, where it sees a ``prompt``, wants a
``completion`` beside it. ``answer`` in words where the task has some, ``gold_json`` as its verifier reads it.
"""


@dataclass(frozen=True)
class Harvest:
    """What came of a teacher's responses.

    Attributes:
        prompts: that were asked.
        responses: that were judged.
        accepted: of them, and not cut off.
        cut_off: accepted but for their end: as a whole turn they would teach to stop in the middle.
        doubled: accepted ones that say to the letter what another one of their prompt says.
        kept: that are in the file.
        without: prompts of which nothing was accepted.
    """

    prompts: int
    responses: int
    accepted: int
    cut_off: int
    doubled: int
    kept: int
    without: int


def harvest(
    answers: pa.Table, prompts: Mapping[str, Prompt], teacher: str, most: int | None
) -> tuple[pa.Table, Harvest]:
    """Accepted responses, each text of a prompt once, in the order in which they were tried.

    Args:
        answers: ANSWERS of all tries.
        prompts: by id.
        teacher: as the person wrote it.
        most: responses that are kept of a prompt; None: all.

    Returns:
        ``(CHATS, what became of the responses)``.
    """
    rows = sorted(answers.to_pylist(), key=lambda row: row["sample_index"])
    right = [row for row in rows if row["correct"]]
    accepted = [row for row in right if row["finish_reason"] != "length"]
    texts: dict[str, dict[str, dict[str, Any]]] = {}
    for row in accepted:
        texts.setdefault(row["prompt_id"], {}).setdefault(_turn(row).strip(), row)
    different = sum(map(len, texts.values()))
    kept = [row for of_prompt in texts.values() for row in list(of_prompt.values())[:most]]
    asked = {row["prompt_id"] for row in rows}
    found = Harvest(
        prompts=len(asked),
        responses=len(rows),
        accepted=len(accepted),
        cut_off=len(right) - len(accepted),
        doubled=len(accepted) - different,
        kept=len(kept),
        without=len(asked - texts.keys()),
    )
    return pa.Table.from_pylist(list(_chats(kept, prompts, teacher)), schema=CHATS), found


def write(table: pa.Table, file: Path) -> None:
    """Write it; whoever reads the file never sees half of it.

    Raises:
        OSError: it cannot be written.
    """
    with whole(file) as unfinished:
        pq.write_table(table, unfinished)


def _turn(row: Mapping[str, Any]) -> str:
    """The whole turn of the model: what the prompt had begun of it, and the response."""
    return str(row["opened"] + row["response"])


def _chats(
    rows: list[dict[str, Any]], prompts: Mapping[str, Prompt], teacher: str
) -> Iterator[dict[str, Any]]:
    for row in rows:
        prompt, turn = prompts[row["prompt_id"]], _turn(row)
        said = [{"role": "assistant", "content": turn}]
        yield {
            "messages": [*prompt.messages, *said],
            "prompt": prompt.messages,
            "completion": said,
            "solution": turn,
            "answer": prompt.answer if prompt.answer is not None else _plain(prompt.gold),
            "gold_json": prompt.gold,
            "prompt_id": prompt.prompt_id,
            "task": row["task"],
            "subset": row["subset"],
            "reward": row["reward"],
            "teacher": teacher,
        }


def _plain(gold: str) -> str | None:
    """The gold where it is a text or number, or an object with an ``answer``; nothing else is an answer.

    A gold that is no JSON is the text itself, and so is a number, whose digits may be meant: 5.10, 007.
    """
    try:
        value = json.loads(gold)
    except (ValueError, RecursionError):
        return gold
    if isinstance(value, dict):
        value = value.get("answer")
        return str(value) if isinstance(value, str | int | float) else None
    if value is None or isinstance(value, list):
        return None
    return value if isinstance(value, str) else gold
