"""A shard's rows as an older version of the policy reads them as their teacher, and what it says of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from torch import Tensor

from rlad_core.batching import Indices
from rlad_core.schema.declarations import TEACHER_PROMPT_IDS, made_by
from services.learner.training_rows import TrainingRows


def read_by_older(rows: TrainingRows, *, privileged: bool, unites_end_tokens: bool) -> TrainingRows:
    """The same responses, without what another teacher told of them.

    Args:
        privileged: it reads ``teacher_prompt_token_ids`` in the prompts' place.
        unites_end_tokens: where there are several, they are one outcome.
    """
    table = rows.table
    if privileged:
        place = table.column_names.index("prompt_token_ids")
        table = table.set_column(place, "prompt_token_ids", table.column(TEACHER_PROMPT_IDS.name))
    others = [value.name for value in made_by("teacher") if value.name in table.column_names]
    unites = unites_end_tokens and len(rows.end_tokens) > 1
    return rows.of_table(table.drop_columns(others), unites_end_tokens=unites)


def told_by_older(
    read: TrainingRows, passes: Iterable[tuple[Indices, Tensor]]
) -> dict[str, npt.NDArray[np.float32]]:
    """Values per response token by name, [tokens] of all rows: no number where a row was in no pass.

    Args:
        read: see `read_by_older`.
        passes: rows, and the log-probs of all that `read` asked of them.
    """
    bounds = np.concatenate(([0], np.cumsum(read.response_lengths)))
    found: dict[str, npt.NDArray[np.float32]] = {}
    for rows, logprobs in passes:
        told = read.split_logprobs(rows, logprobs)
        for name, values in (("teacher_logprobs", told.policy), ("teacher_end_logprobs", told.ends)):
            if values is None:
                continue
            whole = found.setdefault(name, np.full(read.response_tokens, np.nan, np.float32))
            parts = values.cpu().split(read.response_lengths[rows].tolist())
            for row, part in zip(rows.tolist(), parts, strict=True):
                whole[bounds[row] : bounds[row + 1]] = part.numpy()
    return found
