"""What a server of somebody else's tells, above all log-probs, looked at before anything is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import httpx
import numpy as np
import numpy.typing as npt

from rlad_core.client.errors import ServiceError
from rlad_core.schema.token_values import LOGPROB

STAND_IN: Final = -9999.0
"""What vLLM's OpenAI interface writes for minus infinity, which JSON does not have."""
_SHOWN: Final = 300
Told = TypeVar("Told")


def read_told(answer: httpx.Response, read: Callable[[Any], Told]) -> Told:
    """What is wanted of an answer in JSON.

    Args:
        read: takes it out of the JSON; where it is not there it raises what Python does.

    Raises:
        ServiceError: it is not there, or the answer is no JSON; names the address, and shows the answer.
    """
    try:
        return read(answer.json())
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ServiceError(
            f"{answer.request.method} {answer.url} answered what a vLLM server does not: "
            f"{answer.text[:_SHOWN]!r}; is it the address of one?"
        ) from error


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


def likeliest_told(
    places: Sequence[Mapping[str, Mapping[str, Any]]],
    top_k: int,
    *,
    tokens: int | None,
    sequence_id: str,
    server: str,
) -> dict[str, npt.NDArray[Any]]:
    """The likeliest tokens at the places of a response.

    Args:
        places: token id -> what is told of it, of each place: those of rank 1..top_k, and the response's own.
        tokens: ids from there on are no tokens, and left out; None: it isn't known.

    Returns:
        ``top_token_ids`` int32 [T, top_k] and ``top_logprobs`` float32 [T, top_k], likeliest first.

    Raises:
        ServiceError: fewer are told, or what is told of one is no log-prob.
    """
    ids = np.empty((len(places), top_k), dtype=np.int32)
    logprobs = np.empty((len(places), top_k), dtype=np.float32)
    for number, place in enumerate(places):
        try:
            told = sorted((each["rank"], int(token), each["logprob"]) for token, each in place.items())
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise ServiceError(f"{server} did not tell the rank of likely tokens") from error
        found = [entry for entry in told if entry[0] <= top_k and (tokens is None or entry[1] < tokens)]
        if len(found) < top_k:
            raise ServiceError(
                f"{server} told {len(found)} of the {top_k} likeliest tokens at token {number} of the "
                f"response of sequence {sequence_id!r}; rows of its model that are no tokens do not count. "
                "Take a teacher of kind serve or http, or a smaller top_k"
            )
        ids[number] = [token for _, token, _ in found[:top_k]]
        logprobs[number] = logprobs_told([each for _, _, each in found[:top_k]], sequence_id, server)
    return {"top_token_ids": ids, "top_logprobs": logprobs}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
