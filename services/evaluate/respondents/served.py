"""A running rollout service of ours, over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rlad_core.client import Endpoint
from services.evaluate.respondents.interface import (
    Answer,
    Respondent,
    Sampling,
    Wanted,
    chat_in_words,
    opened_before,
)


class RolloutServiceModel(Respondent):
    """Args:
    endpoint: the service.
    policy: what it said of itself, see `policy_of`.
    sampling: as for any model; without `max_tokens`, what the service's context leaves.
    concurrency: responses under way at a time.
    """

    part = 1

    def __init__(
        self, endpoint: Endpoint, policy: dict[str, Any], sampling: Sampling, concurrency: int
    ) -> None:
        self.at_most = concurrency
        self._endpoint = endpoint
        self._policy = policy
        self._sampling = {
            "group_size": 1,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # The engine cuts at its own length.
            "max_tokens": sampling.max_tokens or policy["max_model_len"],
            "seed": sampling.seed,
            "training": False,
        }

    @property
    def identity(self) -> dict[str, Any]:
        """See `Respondent.identity`: the policy's version and checksum, wherever it is served."""
        return {name: self._policy[name] for name in ("model", "policy_version", "checksum", "max_model_len")}

    async def answer(self, wanted: Sequence[Wanted]) -> list[Answer]:
        """See `Respondent.answer`."""
        told = await self._endpoint.request(
            "POST",
            "/v1/rollouts",
            json={
                "prompts": [{"id": each.name, "messages": each.prompt.messages} for each in wanted],
                "sampling": self._sampling,
            },
            what=f"the response to prompt {wanted[0].prompt.prompt_id}",
        )
        by_name = {result["id"]: result for result in told.json()["results"]}
        return [self._answer(each, by_name[each.name]) for each in wanted]

    def _answer(self, wanted: Wanted, told: dict[str, Any]) -> Answer:
        return Answer(
            prompt=chat_in_words(wanted.prompt),
            response=told["text"],
            opened=opened_before(told["text"]),
            finish_reason=told["finish_reason"],
            tokens=len(told["token_ids"]),
            values={
                "response_token_ids": np.asarray(told["token_ids"], dtype=np.int32),
                "rollout_logprobs": np.asarray(told["logprobs"], dtype=np.float32),
                "policy_versions": np.asarray(told["policy_versions"], dtype=np.int32),
            },
        )

    async def close(self) -> None:
        """See `Respondent.close`."""
        await self._endpoint.close()


async def policy_of(url: str, token: str | None) -> dict[str, Any]:
    """What a rollout service says of itself (`PolicyInfo`).

    Raises:
        ServiceError, TimeoutError: it does not answer, or is none.
    """
    async with Endpoint(url, token=token, call_timeout_s=5, timeout_s=10, connections=1) as probe:
        answer = await probe.request("GET", "/v1/policy", what="what the rollout service samples from")
        return dict(answer.json())
