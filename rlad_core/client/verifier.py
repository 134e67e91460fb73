"""Clients of a verifier's REST interface.

with VerifierClient("http://verifier:8000") as verifier:
    [verdict] = verifier.judge("my_task", [("It is 5.", {"answer": "5"})])
    print(verdict.reward, verdict.verdict)
    rewards = verifier.verify(responses)                                  # Arrow: RESPONSES -> REWARDS
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rlad_core import schema
from rlad_core.client.answer_forms import read_as
from rlad_core.client.blocking import Blocking
from rlad_core.client.connected import Connected
from rlad_core.client.errors import ServiceError
from rlad_core.client.parts import (
    ask_table,
    cut,
    in_order_of,
    most_bytes,
    name_sequences,
    table_bytes,
)
from rlad_core.client.plain_json import encoded, row_bytes
from rlad_core.client.verifier_forms import Judged, VerifierInfo, VerifyAnswer
from rlad_core.schema.validation import check_columns
from rlad_core.waiting import all_of

RESPONSES_PER_PART = 1024
"""Of a large table; all of it at once may be more than is judged within ``call_timeout_s``."""


class AsyncVerifierClient(Connected):
    """A verifier behind a URL.

    Args:
        url: under which ``/v1/verify`` is.
        token: bearer token, where the verifier wants one.
        call_timeout_s: limit of one HTTP request, 300 s by default; checks that are slow by nature want a
            longer one.
        timeout_s: limit of such a request with its repetitions, 900 s by default.
        connections: requests at a time.
        say: told while the verifier does not answer: after 10 s and then every 30 s, with URL and cause.

    Example:
        >>> async def reward(url: str, response: str) -> float:
        ...     async with AsyncVerifierClient(url) as verifier:
        ...         [verdict] = await verifier.judge("my_task", [(response, {"answer": "5"})])
        ...         return verdict.reward
    """

    CALL_TIMEOUT_S = 300.0
    TIMEOUT_S = 900.0

    _info: VerifierInfo | None = None

    async def info(self) -> VerifierInfo:
        """What is judged, and within which limits."""
        answer = await self._endpoint.request("GET", "/v1/info", what="the verifier's settings")
        self._info = read_as(VerifierInfo, answer)
        return self._info

    async def verify(self, responses: pa.Table) -> pa.Table:
        """Judge responses, by Arrow.

        Args:
            responses: RESPONSES (`rlad_core.schema`), any number of rows.

        Returns:
            REWARDS; the same ids in the same order.

        Raises:
            SchemaError: a table without the columns of one.
            ServiceError: what the verifier refuses, in its words; see `Endpoint.request`.
            TimeoutError: no answer in time; names the endpoint, the last fault and the sequences.
        """
        check_columns(responses, schema.RESPONSES)
        parts = await self._parts(table_bytes(responses))
        if not parts:
            return schema.build(schema.REWARDS, [])

        async def ask(start: int, stop: int) -> pa.Table:
            part = responses.slice(start, stop - start)
            ids = part.column("sequence_id").to_pylist()
            what = f"the verdicts on {name_sequences(ids)}"
            told = await ask_table(self._endpoint, "/v1/verify", part, schema.REWARDS, what=what)
            return in_order_of(ids, told)

        return pa.concat_tables(await all_of(ask(*part) for part in parts))

    async def judge(
        self, task: str, responses: Sequence[tuple[str, Any]], *, opened: str | None = None
    ) -> list[Judged]:
        """Judge responses given as text.

        Args:
            task: that they answer; `VerifierInfo.tasks` lists those that are judged.
            responses: (response, gold); gold as the task has it, a string or an object.
            opened: what the prompts had already written of the model's turn, such as ``<think>``.

        Returns:
            For each response its reward and why.

        Raises:
            ServiceError, TimeoutError: see `verify`.
        """
        rows = [
            {"id": str(place), "response": response, "gold": _gold(gold, f"response {place}: gold")}
            for place, (response, gold) in enumerate(responses)
        ]
        common = {"task": task} if opened is None else {"task": task, "opened": opened}

        async def ask(start: int, stop: int) -> list[Judged]:
            body = {**common, "responses": rows[start:stop]}
            what = f"the verdicts on {stop - start} responses"
            answer = await self._endpoint.request("POST", "/v1/verify", json=body, what=what)
            found = {each.id: each for each in read_as(VerifyAnswer, answer).results}
            if set(found) != {row["id"] for row in rows[start:stop]}:
                raise ServiceError(f"{self._endpoint.url} answered {len(found)} verdicts, for {what}")
            return [found[row["id"]] for row in rows[start:stop]]

        parts = await self._parts(row_bytes(rows, "response"))
        return [verdict for verdicts in await all_of(ask(*part) for part in parts) for verdict in verdicts]

    async def _parts(self, sizes: list[int]) -> list[tuple[int, int]]:
        """First row and end of each request, of the bytes of rows."""
        info = self._info or await self.info()
        most = min(RESPONSES_PER_PART, info.max_responses_per_request)
        return list(cut(sizes, most, most_bytes(info.max_body_bytes)))


class VerifierClient(Blocking[AsyncVerifierClient]):
    """`AsyncVerifierClient` for code without an event loop; usable from several threads.

    Example:
        >>> def reward(url: str, response: str) -> float:
        ...     with VerifierClient(url) as verifier:
        ...         [verdict] = verifier.judge("my_task", [(response, {"answer": "5"})])
        ...         return verdict.reward
    """

    KIND = AsyncVerifierClient

    def info(self) -> VerifierInfo:
        """See `AsyncVerifierClient.info`."""
        return self._wait_for(self._client.info)

    def verify(self, responses: pa.Table) -> pa.Table:
        """See `AsyncVerifierClient.verify`."""
        return self._wait_for(lambda: self._client.verify(responses))

    def judge(
        self, task: str, responses: Sequence[tuple[str, Any]], *, opened: str | None = None
    ) -> list[Judged]:
        """See `AsyncVerifierClient.judge`."""
        return self._wait_for(lambda: self._client.judge(task, responses, opened=opened))


def _gold(gold: str | Mapping[str, Any], what: str) -> str:
    """As it stands in a prompt's column ``gold``."""
    return gold if isinstance(gold, str) else json.dumps(json.loads(encoded(gold, what)))
