r"""Reads problems in the row formats of the field, from Parquet and JSONL files.

    format  columns                  the answer is
    chat    prompt, reward_model     reward_model.ground_truth (verl, Skywork-OR1, DAPO): a text or a number,
                                     or the only entry of a list, also of a list written as JSON; prompt is
                                     a list of messages with role and content
    gsm8k   question, answer         what follows the last #### of `answer`; the rest is the solution
    math    problem, solution        the last \boxed{...} of `solution` (MATH)

Other columns are not read. A row that lacks something is refused with its file and place.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.tasks.math.extract import find_boxes
from rlad_core.tasks.math.prompt import asking_for_a_box

Format = Literal["chat", "gsm8k", "math"]
COLUMNS: dict[Format, tuple[str, str]] = {
    "chat": ("prompt", "reward_model"),
    "gsm8k": ("question", "answer"),
    "math": ("problem", "solution"),
}
SUFFIXES = (".parquet", ".jsonl")

_CALCULATION = re.compile(r"<<[^<>]*>>")


@dataclass(frozen=True)
class MathProblem:
    """One problem.

    messages: the chat that asks it, and asks for a box.
    answer: the gold answer, not empty.
    solution: the data's own worked solution, if it has one.
    """

    messages: list[dict[str, str]]
    answer: str
    solution: str | None = None

    def to_gold(self) -> str:
        """As it travels in the column `gold`."""
        return json.dumps({"answer": self.answer, "solution": self.solution})


def read(path: Path, layout: Format) -> list[MathProblem]:
    """The different problems of a file, in its order; of equal rows the first.

    Raises:
        ValueError: it is no such file, a row is no such problem, or two rows give the same problem different
            answers. The message names file and row, counted from 0.
        OSError: it cannot be opened.
    """
    first_rows: dict[str, tuple[int, MathProblem]] = {}
    for row, fields in enumerate(_rows(path, COLUMNS[layout])):
        try:
            problem = from_row(fields, layout)
        except ValueError as error:
            raise ValueError(f"{path}, row {row}: {error}") from error
        first, known = first_rows.setdefault(json.dumps(problem.messages), (row, problem))
        if known.answer != problem.answer:
            raise ValueError(
                f"{path}, row {row}: the problem of row {first} with another answer, {problem.answer!r} "
                f"instead of {known.answer!r}. Remove one of them"
            )
    if not first_rows:
        raise ValueError(f"{path} has no rows")
    return [problem for _, problem in first_rows.values()]


def from_row(fields: Mapping[str, Any], layout: Format) -> MathProblem:
    """The problem of one row.

    Raises:
        ValueError: the row is no problem of this format.
    """
    missing = [column for column in COLUMNS[layout] if fields.get(column) is None]
    if missing:
        raise ValueError(f"nothing in {', '.join(missing)}, which format {layout} needs")
    asked, answered = (fields[column] for column in COLUMNS[layout])
    if layout == "chat":
        return MathProblem(asking_for_a_box(_messages(asked)), _ground_truth(answered))
    for column, text in zip(COLUMNS[layout], (asked, answered), strict=True):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{column} is no text: {text!r}")
    messages = asking_for_a_box([{"role": "user", "content": asked.strip()}])
    if layout == "gsm8k":
        solution, mark, answer = answered.rpartition("####")
        if not mark or not answer.strip():
            raise ValueError(f"answer has no '#### 42' at its end: {answered[-60:]!r}")
        return MathProblem(messages, answer.strip(), _CALCULATION.sub("", solution).strip() or None)
    return MathProblem(messages, _boxed(answered), answered.strip())


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    if path.suffix == ".parquet":
        try:
            file = pq.ParquetFile(path)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{path} is no Parquet file: {error}") from error
        with file:
            missing = set(columns) - set(file.schema_arrow.names)
            if missing:
                raise ValueError(
                    f"{path} lacks the columns {sorted(missing)}; it has {file.schema_arrow.names}"
                )
            for batch in file.iter_batches(batch_size=4096, columns=list(columns)):
                yield from batch.to_pylist()
    elif path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as lines:
            for row, line in enumerate(lines):
                if line.strip():
                    yield _json_row(path, row, line)
    else:
        raise ValueError(f"{path} is neither {' nor '.join(SUFFIXES)}")


def _json_row(path: Path, row: int, line: str) -> dict[str, Any]:
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{path}, line {row + 1} is no JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path}, line {row + 1} is no JSON object")
    return fields


def _messages(value: Any) -> list[dict[str, str]]:
    chat: list[dict[str, str]] = []
    for message in value if isinstance(value, list) else [None]:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            raise ValueError(f"prompt is no list of messages with role and content: {str(value)[:80]!r}")
        chat.append({"role": message["role"], "content": message["content"]})
    if not chat or chat[-1]["role"] != "user":
        raise ValueError("the last message of prompt is not the user's")
    return chat


def _ground_truth(reward_model: Any) -> str:
    if not isinstance(reward_model, dict) or reward_model.get("ground_truth") is None:
        raise ValueError(f"reward_model has no ground_truth: {str(reward_model)[:80]!r}")
    truth = reward_model["ground_truth"]
    if isinstance(truth, str) and truth.lstrip().startswith('["'):
        try:
            truth = json.loads(truth)
        except ValueError as error:
            raise ValueError(f"ground_truth begins like a JSON list and is none: {truth[:80]!r}") from error
    if isinstance(truth, list) and len(truth) == 1:
        truth = truth[0]
    if isinstance(truth, int | float) and not isinstance(truth, bool):
        truth = str(truth)
    if not isinstance(truth, str) or not truth.strip():
        raise ValueError(f"ground_truth is not one answer: {str(truth)[:80]!r}")
    return _boxed(truth) if "\\boxed" in truth else truth.strip()


def _boxed(solution: str) -> str:
    contents = [content.strip() for content in find_boxes(solution).contents if content.strip()]
    if not contents:
        raise ValueError(f"nothing in \\boxed{{}}: {solution[-60:]!r}")
    return contents[-1]
