"""How clients cut what is more than a service takes at a time, by the bytes of its bodies too."""

import asyncio
import json
from typing import Any

import httpx
import pytest

from rlad_core import schema
from rlad_core.client import parts
from rlad_core.client.parts import most_bytes, table_bytes
from rlad_core.client.plain_json import row_bytes
from rlad_core.client.rollout_forms import RolloutLimits
from rlad_core.client.rollouts import AsyncRolloutClient
from rlad_core.client.verifier import AsyncVerifierClient

MOST = 8000


def answered(request: httpx.Request) -> httpx.Response:
    """What a service says that takes bodies of so many bytes and gives the answers that are expected."""
    limits = {"max_body_bytes": MOST, "max_responses_per_request": 1000}
    if request.url.path == "/v1/info":
        info = {"tasks": ["math"], "check_time_limit_s": 5, "check_memory_limit_mib": 512, "timeout_s": 60}
        counts = {"max_solved_prompts_per_request": 10, "max_queued_responses": 10, "schema_versions": {}}
        load = {"requests": 0, "callers_waiting": 0, "waiting": 0}
        return httpx.Response(200, json={**info, **counts, **limits, "load": load})
    assert len(request.content) <= MOST
    sent = json.loads(request.content)
    verdict = {"reward": 1.0, "reward_parts": {}, "correct": True, "verdict": "right"}
    return httpx.Response(200, json={"results": [{"id": row["id"], **verdict} for row in sent["responses"]]})


@pytest.mark.parametrize("text", ["x" * 500, "é" * 300, "🙂" * 200, '\n"\\' * 150])
def test_long_responses_are_sent_in_bodies_that_are_taken(text: str) -> None:
    bodies: list[int] = []

    def counted(request: httpx.Request) -> httpx.Response:
        bodies.append(len(request.content))
        return answered(request)

    async def judged() -> list[str]:
        async with AsyncVerifierClient("http://verifier") as client:
            client._endpoint._http = httpx.AsyncClient(transport=httpx.MockTransport(counted))
            return [each.id for each in await client.judge("math", [(text, {"answer": "5"})] * 40)]

    assert asyncio.run(judged()) == [str(place) for place in range(40)]
    # And no more of them than it takes: each is half full at least, but for the last.
    assert len(bodies) > 4
    assert min(bodies[1:-1]) > MOST / 4


def test_prompts_count_by_bytes_responses_and_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "BYTES_PER_PART", 1000)

    class Policy:
        limits = RolloutLimits(
            max_responses_per_request=8, max_body_bytes=10_000, max_tokens_per_request=4 * 100 + 2 * 30
        )
        max_model_len = 100

    async def cut(sizes: list[int], group_size: int, max_tokens: int = 1) -> list[tuple[int, int]]:
        async with AsyncRolloutClient("http://rollout") as client:
            monkeypatch.setattr(client, "_policy", Policy())
            return await client._parts(sizes, group_size, max_tokens)

    assert asyncio.run(cut([10] * 5, 4)) == [(0, 2), (2, 4), (4, 5)]
    assert asyncio.run(cut([400] * 5, 1)) == [(0, 2), (2, 4), (4, 5)]
    assert asyncio.run(cut([10] * 2, 9)) == [(0, 1), (1, 2)]  # what the service says of it, it says
    assert asyncio.run(cut([5000], 1)) == [(0, 1)]
    # Two prompts of any length, each with its longest response; with more responses one is too much for two.
    assert asyncio.run(cut([10] * 5, 1, 130)) == [(0, 2), (2, 4), (4, 5)]
    assert asyncio.run(cut([10] * 3, 2, 70)) == [(0, 1), (1, 2), (2, 3)]
    assert asyncio.run(cut([10] * 3, 2, 60)) == [(0, 2), (2, 3)]


def test_what_rows_take() -> None:
    rows: list[dict[str, Any]] = [{"response": text} for text in ("a", "é🙂", "\x00\n")]
    for size, row in zip(row_bytes(rows, "row"), rows, strict=True):
        assert size == len(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode()) + 1
    table = schema.build(
        schema.RESPONSES,
        {
            "sequence_id": ["a", "bc"],
            "task": ["math"] * 2,
            "response": ["x" * 100, "é" * 50],
            "gold": ["", "y" * 7],
        },
    )
    assert table_bytes(table) == [64 + 1 + 4 + 100 + 0, 64 + 2 + 4 + 100 + 7]
    assert table_bytes(table.slice(1, 1)) == [64 + 2 + 4 + 100 + 7]
    assert table_bytes(table.slice(0, 0)) == []
    pairs = {"sequence_id": ["a"], "prompt_token_ids": [[1, 2]], "response_token_ids": [[3]]}
    assert table_bytes(schema.build(schema.SEQUENCES, pairs, tokenizer_fingerprint="f")) == [64 + 1 + 12]
    assert most_bytes(800) == 700
    assert most_bytes(2**26) == parts.BYTES_PER_PART
