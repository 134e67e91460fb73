"""The table of answered prompts: every response with its verdict and the reason, as evaluations keep it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pyarrow as pa

from rlad_core import schema
from rlad_core.evaluation.faults import FORMLESS
from rlad_core.evaluation.paired import Verdicts
from rlad_core.evaluation.rows import EvaluationRow, evaluation_rows

_PER_TOKEN = [
    value.field(nullable=True)
    for value in schema.TOKEN_VALUES
    if value.per == "response token" and value.presence == "required"
]


PER_TOKEN: Final = tuple(field.name for field in _PER_TOKEN)
"""Columns with a value for each token of the response."""


def _field(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


ANSWERS: Final = pa.schema(
    [
        *(_field(name, pa.string()) for name in ("prompt_id", "task", "subset")),
        _field("sample_index", pa.int32()),
        *(_field(name, pa.string()) for name in ("prompt", "gold", "opened", "response")),
        # Not every endpoint tells them.
        pa.field("finish_reason", pa.string()),
        pa.field("tokens", pa.int32()),
        *(schema.REWARDS.field(name) for name in ("reward", "reward_parts", "correct", "verdict")),
        _field("fault", pa.string()),
        # Of models elsewhere there is text alone.
        *_PER_TOKEN,
    ]
)
"""One row a response and subset: a problem that is in two subsets has its responses in both.

``opened`` is what the prompt had already written of the model's turn, which is judged with the response;
``verdict`` is the reason in words, ``fault`` a word for it (`Fault`), ``tokens`` the response's length.
``finish_reason`` and ``tokens`` are null where the model's server did not tell."""


def latest_of(tables: Sequence[pa.Table]) -> pa.Table:
    """ANSWERS of several files, each response once: of one that was judged again the later verdict.

    Args:
        tables: at least one, the later ones last.
    """
    # Of different times: what is null in one may have had to be told in another.
    table = pa.concat_tables(tables, promote_options="default")
    keys = zip(*(table[name].to_pylist() for name in ("prompt_id", "subset", "sample_index")), strict=True)
    last = {key: row for row, key in enumerate(keys)}
    return table if len(last) == len(table) else table.take(pa.array(sorted(last.values()), pa.int64()))


def rows_of(answers: pa.Table, ks: Sequence[int] = ()) -> list[EvaluationRow]:
    """The table of an evaluation; see `evaluation_rows`."""
    ends = answers["finish_reason"].to_pylist()
    return evaluation_rows(
        answers["subset"].to_pylist(),
        answers["prompt_id"].to_pylist(),
        answers["correct"].to_pylist(),
        None if None in ends else [end == "length" for end in ends],
        unreadable=[fault in FORMLESS for fault in answers["fault"].to_pylist()],
        rewards=answers["reward"].to_numpy(),
        ks=ks,
    )


def verdicts_of(answers: pa.Table) -> Verdicts:
    """Right or wrong by subset and prompt, in the order of the samples, for `paired_rows`."""
    columns = (answers[name].to_pylist() for name in ("subset", "prompt_id", "sample_index", "correct"))
    found: dict[str, dict[str, list[bool]]] = {}
    for subset, prompt, _, correct in sorted(zip(*columns, strict=True), key=lambda row: row[2]):
        found.setdefault(subset, {}).setdefault(prompt, []).append(correct)
    return found
