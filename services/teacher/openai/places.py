"""What a teacher said of a pair, token by token."""

from typing import NamedTuple

import numpy as np

from services.teacher.scoring.interface import Scored, TokenPair


class Place(NamedTuple):
    """A token in its place, and what the teacher says of it.

    Args:
        token_id: that stands there.
        logprob: its; where it is among the likeliest, the same number as there.
        rank: its, 1 for the likeliest; None where nobody wants it.
        top_ids, top_logprobs: likeliest first.
    """

    token_id: int
    logprob: float
    rank: int | None
    top_ids: list[int]
    top_logprobs: list[float]


def places(pair: TokenPair, scored: Scored, appended: int = 0) -> list[Place]:
    """The places of a pair's response.

    Args:
        appended: so many at the end are not in the pair: the likeliest token stands there.
    """
    values, ids = scored.values, pair.response.astype(np.int64)
    logprobs = values["teacher_logprobs"].astype(np.float64)
    ranks = values["ranks"].tolist() if pair.ranks else [None] * ids.size
    if not pair.details.top_k:
        return [Place(*each, [], []) for each in zip(ids.tolist(), logprobs.tolist(), ranks, strict=True)]
    top_ids, top_logprobs = values["top_token_ids"], values["top_logprobs"].astype(np.float64)
    if appended:
        ids[-1] = top_ids[-1, 0]
        ranks[-1] = None if ranks[-1] is None else 1
    rows, columns = np.nonzero(top_ids == ids[:, None])
    logprobs[rows] = top_logprobs[rows, columns]
    columns_of_rows = (ids.tolist(), logprobs.tolist(), ranks, top_ids.tolist(), top_logprobs.tolist())
    return [Place(*each) for each in zip(*columns_of_rows, strict=True)]
