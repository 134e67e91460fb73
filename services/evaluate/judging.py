"""Responses with their verdicts, as rows of ANSWERS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rlad_core import schema
from rlad_core.evaluation import fault_of
from rlad_core.tasks import Prompt
from services.clients.responses import Responses
from services.evaluate.respondents import Answer


@dataclass(frozen=True)
class Judged:
    """A response that is to be judged as the answer to a prompt of one subset."""

    prompt: Prompt
    sample: int
    answer: Answer


async def judged_rows(services: Responses, given: Sequence[Judged]) -> list[dict[str, Any]]:
    """Rows of ANSWERS, in order.

    Raises:
        TimeoutError: the verifier did not answer.
        InvalidRequestError: a gold that its task cannot read.
    """
    responses = schema.build(
        schema.RESPONSES,
        {
            "sequence_id": [str(place) for place in range(len(given))],
            "task": [each.prompt.task for each in given],
            "response": [each.answer.opened + each.answer.response for each in given],
            "gold": [each.prompt.gold for each in given],
        },
    )
    rewards: pa.Table = await services.verdicts(responses)
    return [_row(each, reward) for each, reward in zip(given, rewards.to_pylist(), strict=True)]


def _row(given: Judged, reward: dict[str, Any]) -> dict[str, Any]:
    prompt, answer = given.prompt, given.answer
    return {
        "prompt_id": prompt.prompt_id,
        "task": prompt.task,
        "subset": prompt.subset,
        "sample_index": given.sample,
        "prompt": answer.prompt,
        "gold": prompt.gold,
        "opened": answer.opened,
        "response": answer.response,
        "finish_reason": answer.finish_reason,
        "tokens": answer.tokens,
        **{name: reward[name] for name in ("reward", "reward_parts", "correct", "verdict")},
        "fault": fault_of(reward["verdict"], correct=reward["correct"], finish_reason=answer.finish_reason),
        **answer.values,
    }
