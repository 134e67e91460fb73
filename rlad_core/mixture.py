"""Several teachers' scores of the same responses as those of one.

With weights w that sum to 1, ``probabilities``: ``log sum_i w_i p_i``, the log-prob of the mixture of the
teachers' distributions, which is a distribution itself. ``logprobs``: ``sum_i w_i log p_i``, their geometric
mean, whose sum over the vocabulary is at most 1 and below it wherever they disagree.

Of all end tokens as one outcome, and of named tokens, the same is told: of a mixture of distributions it is
what the mixture gives to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.config.teachers import Manner

_MIXED: Final = ("teacher_logprobs", "teacher_end_logprobs", "named_logprobs")


def mixed(scores: Sequence[pa.Table], weights: Sequence[float], manner: Manner) -> pa.Table:
    """The scores of the mixture, float32, computed in float64.

    Args:
        scores: TEACHER_SCORES or TEACHER_DETAILS, one of each teacher; the same sequences in the same order.
        weights: of each, above 0; they need not sum to 1.

    Returns:
        A table of the first one's schema. What not all of them tell is null.

    Raises:
        SchemaError: they are of different sequences or tokenizers.
    """
    first = scores[0]
    for other in scores[1:]:
        if not other.column("sequence_id").equals(first.column("sequence_id")):
            raise schema.SchemaError(
                "teachers that are mixed scored different sequences", schema="teacher_scores"
            )
        if schema.fingerprint_of(other) != schema.fingerprint_of(first):
            raise schema.SchemaError("teachers that are mixed have other tokenizers", schema="teacher_scores")
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"sequence_id": first.column("sequence_id")}
    for name in _MIXED:
        told = [table.column(name) for table in scores if name in table.column_names]
        if len(told) == len(scores) and not any(column.null_count for column in told):
            flat = [schema.flatten(column) for column in told]
            values = mixed_logprobs([values for values, _ in flat], weights, manner)
            columns[name] = schema.unflatten(values.astype(np.float32), flat[0][1], told[0].type)
    wanted = schema.TEACHER_DETAILS if "named_logprobs" in columns else schema.TEACHER_SCORES
    return schema.build(wanted, columns, tokenizer_fingerprint=schema.fingerprint_of(first))


def mixed_logprobs(
    logprobs: Sequence[npt.ArrayLike], weights: Sequence[float], manner: Manner
) -> npt.NDArray[np.float64]:
    """Log-probs of the mixture [N], at most 0, from those of each teacher [N]; see the module."""
    each = np.stack([np.asarray(values, dtype=np.float64) for values in logprobs])
    shares = np.asarray(weights, dtype=np.float64)[:, None] / np.sum(weights)
    found: npt.NDArray[np.float64] = (
        (shares * each).sum(axis=0)
        if manner == "logprobs"
        else np.logaddexp.reduce(each + np.log(shares), axis=0)
    )
    return found.clip(max=0.0)
