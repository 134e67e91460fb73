"""More than a teacher can do: the surplus is refused with 429, what was accepted is answered right."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from ray import serve
from scoring_cases import TOLERANCE, PlainForward, mixed_pairs

from services.teacher.service import build
from services.teacher.settings import TeacherArgs, TeacherLimits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONGEST = 256
SECONDS = 12.0  # a minute of it for each service: python -m tests.abuse --long --only overload
QUEUED_TOKENS = 20_000


@pytest.fixture(scope="module")
def url(ray_cluster: None, serve_url: str, tiny_model: Any) -> Iterator[str]:
    args = TeacherArgs(
        model=str(tiny_model.path),
        max_model_len=LONGEST,
        max_tokens_per_batch=1024,
        num_cpus=0.1,
        max_ongoing_requests=1000,
        limits=TeacherLimits(max_queued_tokens=QUEUED_TOKENS),
    )
    serve.run(build(args), name="overload", route_prefix="/overload")
    yield f"{serve_url}/overload/v1/score"
    serve.delete("overload")


def replica_memory() -> int:
    """Resident bytes of the replica's process."""
    [replica] = [
        process
        for process in psutil.process_iter(["cmdline"])
        if "ServeReplica:overload" in " ".join(process.info["cmdline"] or ())
    ]
    return int(replica.memory_info().rss)


def test_the_surplus_is_refused_and_the_rest_is_right(url: str, tiny_model: Any) -> None:
    pairs = mixed_pairs(tiny_model.vocab_size, LONGEST, seed=1)
    body = {"sequences": [{"prompt_token_ids": p, "response_token_ids": r} for p, r in pairs]}
    plain = PlainForward(tiny_model.path)
    expected = [plain.logprobs(*pair) for pair in pairs]
    tokens = sum(len(p) + len(r) for p, r in pairs)
    # So many at a time that the queue cannot hold a quarter of them.
    clients = 4 * (QUEUED_TOKENS // tokens + 2)
    enough = clients // 4
    statuses: Counter[int] = Counter()

    async def ask(http: httpx.AsyncClient, until: float) -> None:
        # A slow machine gets longer, until what is looked at is there.
        while time.monotonic() < until or statuses[200] < enough or not statuses[429]:
            answer = await http.post(url, json=body)
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                for result, logprobs in zip(answer.json()["results"], expected, strict=True):
                    np.testing.assert_allclose(result["logprobs"], logprobs, atol=TOLERANCE, rtol=0)
            elif answer.status_code == 429:
                assert answer.headers["content-type"] == "application/problem+json"
                await asyncio.sleep(float(answer.headers["retry-after"]) / 4)

    async def load(seconds: float) -> None:
        limits = httpx.Limits(max_connections=clients)
        async with httpx.AsyncClient(timeout=120, limits=limits) as http:
            await asyncio.gather(*(ask(http, time.monotonic() + seconds) for _ in range(clients)))

    async def load_beside_another(seconds: float) -> None:
        """Whoever fills the queue leaves room in it for the next caller."""
        loading = asyncio.create_task(load(seconds))
        other = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with httpx.AsyncClient(timeout=120, transport=other) as http:
            while not loading.done():
                answer = await http.post(url, json=body)
                assert answer.status_code == 200, answer.text
        await loading

    asyncio.run(load(SECONDS / 2))  # until caches and buffers have their size
    before = replica_memory()
    asyncio.run(load_beside_another(SECONDS / 2))
    assert set(statuses) == {200, 429}
    assert replica_memory() < 1.1 * before
    assert httpx.post(url, json=body, timeout=60).status_code == 200


def test_a_client_that_leaves_frees_its_place(url: str, tiny_model: Any) -> None:
    # A lone request may be longer than the queue; while it is in work, the next one is refused.
    ids = np.random.default_rng(2).integers(3, tiny_model.vocab_size, (4000, LONGEST - 10)).tolist()
    long = {"sequences": [{"prompt_token_ids": row[:1], "response_token_ids": row[1:]} for row in ids]}
    short = {"sequences": [{"prompt_token_ids": [5], "response_token_ids": [6]}]}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(url, json=long, timeout=httpx.Timeout(60, read=1))
    # After the batch that is being worked on, and the news that the client is gone: long before its other
    # sequences would be through.
    deadline = time.monotonic() + 30
    while (status := httpx.post(url, json=short, timeout=60).status_code) == 429:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert status == 200
