"""Log-probs that a server of somebody else's tells, looked at before anything is computed with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from rlad_core.client.errors import ServiceError
from rlad_core.schema.token_values import LOGPROB

STAND_IN: Final = -9999.0
"""What vLLM's OpenAI interface writes for minus infinity, which JSON does not have."""


def logprobs_told(values: Sequence[Any], sequence_id: str, server: str) -> npt.NDArray[np.float32]:
    """The log-probs of a response's tokens.

    Args:
        values: as the server's JSON has them.

    Raises:
        ServiceError: one of them is none; names the server, the sequence and the token's place.
    """
    # What is no number is as wrong as NaN, and told as it came.
    told = np.asarray([value if _is_number(value) else np.nan for value in values], dtype=np.float32)
    wrong = np.flatnonzero(~LOGPROB.holds(told) | (told <= STAND_IN))
    if not wrong.size:
        return told
    place = int(wrong[0])
    value = values[place]
    what = (
        "its stand-in for minus infinity: the token has no probability there"
        if told[place] <= STAND_IN
        else "and a log-prob is a finite number of at most 0"
    )
    raise ServiceError(
        f"{server} says {value!r:.40} of token {place} of the response of sequence {sequence_id!r}, {what}"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
