"""What each answer to a prompt repeats of it: made once, and no more than one request may ask for."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import orjson

from rlad_core.client.errors import LimitError
from rlad_core.client.rollout_forms import RolloutLimits


def as_json(token_ids: npt.NDArray[np.int32]) -> bytes:
    """Token ids, made JSON once: as Python objects they take some ten times the memory."""
    return orjson.dumps(token_ids, option=orjson.OPT_SERIALIZE_NUMPY)


def refuse_repeated(told: Sequence[bytes | str], count: int, limits: RolloutLimits) -> None:
    """Refuse to repeat prompts in more bytes than a request may have.

    Args:
        told: of each prompt; a text counts by its characters.
        count: answers to each.

    Raises:
        LimitError: says how much.
    """
    size = count * sum(map(len, told))
    if size > (most := limits.max_body_bytes):
        raise LimitError(
            "repeated",
            f"prompts would be repeated in {count} answers each, {size} bytes of one request; at most {most} "
            "are told. Ask for fewer answers, or without echo and return_token_ids",
        )
