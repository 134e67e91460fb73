"""How much a request is: tokens of its prompts, those of its longest responses, and what is told of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout.settings import SamplingSettings
from services.rollout.writing import Wish


def group_tokens(
    prompts: npt.NDArray[np.int64], sampling: SamplingSettings, max_length: int
) -> npt.NDArray[np.int64]:
    """Tokens that each prompt and its responses may come to.

    Args:
        prompts: tokens of each, int64 [prompts].
        max_length: of a prompt and a response together.
    """
    # What the engine stops at is all that is counted.
    longest = np.minimum(sampling.max_tokens, np.maximum(max_length - prompts, 0))
    return prompts + sampling.group_size * longest


def check_wishes(wishes: Sequence[Wish], limits: RolloutLimits) -> None:
    """Refuse to write more than one request may ask for.

    Raises:
        LimitError: says how much.
    """
    told = sum(wish.count * wish.max_tokens * wish.top_logprobs for wish in wishes)
    limits.check_tokens(sum(wish.cost for wish in wishes), told)
