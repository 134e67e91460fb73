"""Clients of a rollout service's REST interface.

    with RolloutClient("http://rollout:8000") as rollouts:
        print(rollouts.policy().policy_version)
        [responses] = rollouts.sample_texts(["1 + 1 ="], group_size=4, max_tokens=32, seed=1)
        print(responses[0].text, responses[0].logprobs)
        table = rollouts.generate(prompts, group_size=4, max_tokens=32)       # Arrow: PROMPTS -> ROLLOUTS

Sampling changes nothing in the service, so a request that broke off is asked again; without a seed it may
then get other responses.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rlad_core import schema
from rlad_core.client.answer_forms import read_as
from rlad_core.client.blocking import Blocking
from rlad_core.client.connected import Connected
from rlad_core.client.parts import (
    ask_table,
    cut,
    most_bytes,
    name_sequences,
    table_bytes,
)
from rlad_core.client.plain_json import row_bytes
from rlad_core.client.rollout_forms import PolicyInfo, ResponseOut, RolloutAnswer
from rlad_core.schema.validation import check_columns
from rlad_core.waiting import all_of

RESPONSES_PER_PART = 256
"""Of a large request; all of it at once may be more than is sampled within ``call_timeout_s``."""


class AsyncRolloutClient(Connected):
    """A rollout service behind a URL.

    Args:
        url: under which ``/v1/rollouts`` is.
        token: bearer token, where the service wants one.
        call_timeout_s: limit of one HTTP request, 600 s by default; long responses of many prompts want a
            longer one.
        timeout_s: limit of such a request with its repetitions, 1,800 s by default.
        connections: requests at a time.
        say: told while the service does not answer: after 10 s and then every 30 s, with URL and cause.

    Example:
        >>> async def first_answer(url: str) -> str:
        ...     async with AsyncRolloutClient(url) as rollouts:
        ...         [[response]] = await rollouts.sample_texts(["1 + 1 ="], group_size=1, max_tokens=8)
        ...         return response.text
    """

    CALL_TIMEOUT_S = 600.0
    TIMEOUT_S = 1800.0

    _policy: PolicyInfo | None = None

    async def policy(self) -> PolicyInfo:
        """What is sampled from, in which version, and within which limits."""
        answer = await self._endpoint.request("GET", "/v1/policy", what="what the service samples from")
        self._policy = read_as(PolicyInfo, answer)
        return self._policy

    async def generate(
        self, prompts: pa.Table, *, group_size: int, max_tokens: int, **sampling: Any
    ) -> pa.Table:
        """Sample a group of responses for each prompt, by Arrow.

        Args:
            prompts: PROMPTS (`rlad_core.schema`), any number of rows.
            group_size: responses for each prompt.
            max_tokens: of the longest response.
            sampling: more of the service's settings: seed, temperature, top_p, top_k, stop_token_ids,
                training; None is as if it were not given.

        Returns:
            ROLLOUTS, prompt by prompt in their order, by sample_index within.

        Raises:
            SchemaError: a table without the columns of one.
            ServiceError: what the service refuses, in its words; see `Endpoint.request`.
            TimeoutError: no answer in time; names the endpoint, the last fault and the prompts.
        """
        check_columns(prompts, schema.PROMPTS)
        settings = _settings(group_size, max_tokens, sampling)
        parts = await self._parts(table_bytes(prompts), group_size, max_tokens)
        if not parts:
            mine = schema.fingerprint_of(prompts) or ""
            return schema.build(schema.ROLLOUTS, [], tokenizer_fingerprint=mine)

        async def ask(start: int, stop: int) -> pa.Table:
            part = prompts.slice(start, stop - start)
            what = f"responses to {name_sequences(part.column('prompt_id').to_pylist())}"
            return await ask_table(
                self._endpoint, "/v1/rollouts", part, schema.ROLLOUTS, what=what, params=settings
            )

        return pa.concat_tables(await all_of(ask(*part) for part in parts))

    async def sample_tokens(
        self, prompts: Sequence[Sequence[int]], *, group_size: int, max_tokens: int, **sampling: Any
    ) -> list[list[ResponseOut]]:
        """Sample responses to prompts given as token ids.

        Args:
            prompts: token ids of each.
            group_size, max_tokens, sampling: see `generate`.

        Returns:
            For each prompt its ``group_size`` responses, each with one log-prob per token.

        Raises:
            ServiceError, TimeoutError: see `generate`.
        """
        rows = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
        return await self._sample(rows, _settings(group_size, max_tokens, sampling))

    async def sample_texts(
        self, prompts: Sequence[Any], *, group_size: int, max_tokens: int, **sampling: Any
    ) -> list[list[ResponseOut]]:
        """Sample responses to prompts given as text, which the service tokenizes.

        Args:
            prompts: each a string, or a chat as a list of messages.
            group_size, max_tokens, sampling: see `generate`.

        Returns:
            For each prompt its ``group_size`` responses.

        Raises:
            ServiceError, TimeoutError: see `generate`.
        """
        rows = [{"prompt" if isinstance(each, str) else "messages": each} for each in prompts]
        return await self._sample(rows, _settings(group_size, max_tokens, sampling))

    async def _parts(self, sizes: list[int], group_size: int, max_tokens: int) -> list[tuple[int, int]]:
        """First prompt and end of each request, of the bytes of prompts."""
        policy = self._policy or await self.policy()
        limits, longest = policy.limits, policy.max_model_len
        responses = min(RESPONSES_PER_PART, limits.max_responses_per_request)
        # Of a prompt that is as long as can be: texts are tokens where they are answered.
        tokens = longest + group_size * min(max_tokens, longest)
        prompts = min(responses // max(1, group_size), limits.max_tokens_per_request // max(1, tokens))
        return list(cut(sizes, max(1, prompts), most_bytes(limits.max_body_bytes)))

    async def _sample(
        self, rows: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]
    ) -> list[list[ResponseOut]]:
        named = [{"id": str(place), **row} for place, row in enumerate(rows)]

        async def ask(start: int, stop: int) -> list[ResponseOut]:
            body = {"prompts": named[start:stop], "sampling": settings}
            what = f"responses to {stop - start} prompts"
            answer = await self._endpoint.request("POST", "/v1/rollouts", json=body, what=what)
            return read_as(RolloutAnswer, answer).results

        parts = await self._parts(row_bytes(named, "prompt"), settings["group_size"], settings["max_tokens"])
        groups: list[list[ResponseOut]] = [[] for _ in rows]
        for responses in await all_of(ask(*part) for part in parts):
            for response in responses:
                groups[int(response.id)].append(response)
        return groups


class RolloutClient(Blocking[AsyncRolloutClient]):
    """`AsyncRolloutClient` for code without an event loop; usable from several threads.

    Example:
        >>> def first_answer(url: str) -> str:
        ...     with RolloutClient(url) as rollouts:
        ...         [[response]] = rollouts.sample_texts(["1 + 1 ="], group_size=1, max_tokens=8)
        ...         return response.text
    """

    KIND = AsyncRolloutClient

    def policy(self) -> PolicyInfo:
        """See `AsyncRolloutClient.policy`."""
        return self._wait_for(self._client.policy)

    def generate(self, prompts: pa.Table, *, group_size: int, max_tokens: int, **sampling: Any) -> pa.Table:
        """See `AsyncRolloutClient.generate`."""
        return self._wait_for(
            lambda: self._client.generate(prompts, group_size=group_size, max_tokens=max_tokens, **sampling)
        )

    def sample_tokens(
        self, prompts: Sequence[Sequence[int]], *, group_size: int, max_tokens: int, **sampling: Any
    ) -> list[list[ResponseOut]]:
        """See `AsyncRolloutClient.sample_tokens`."""
        return self._wait_for(
            lambda: self._client.sample_tokens(
                prompts, group_size=group_size, max_tokens=max_tokens, **sampling
            )
        )

    def sample_texts(
        self, prompts: Sequence[Any], *, group_size: int, max_tokens: int, **sampling: Any
    ) -> list[list[ResponseOut]]:
        """See `AsyncRolloutClient.sample_texts`."""
        return self._wait_for(
            lambda: self._client.sample_texts(
                prompts, group_size=group_size, max_tokens=max_tokens, **sampling
            )
        )


def _settings(group_size: int, max_tokens: int, more: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in more.items() if value is not None}
    return {"group_size": group_size, "max_tokens": max_tokens, **given}
