"""The teacher's client: how it cuts a large table. What it is answered is in test_teachers.py."""

import asyncio
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from served_app import running
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from rlad_core import schema
from rlad_core.client import teacher as clients
from rlad_core.client.connected import Connected
from rlad_core.client.details import Details
from rlad_core.client.errors import InvalidRequestError, ServiceError
from rlad_core.client.forms import TeacherInfo, TeacherLimits
from rlad_core.client.rollouts import AsyncRolloutClient, RolloutClient
from rlad_core.client.teacher import AsyncTeacherClient, TeacherClient
from rlad_core.client.verifier import AsyncVerifierClient, VerifierClient


def info(**limits: int) -> TeacherInfo:
    return TeacherInfo(
        model="m",
        engine="torch",
        dtype="float32",
        max_model_len=100_000,
        vocab_size=10,
        hidden_size=8,
        tells_entropy=True,
        details=["entropy", "top_k"],
        tokenizer_fingerprint="f",
        chat_template_fingerprint=None,
        schema_versions={},
        limits=TeacherLimits(**limits),
    )


@pytest.mark.parametrize(
    ("lengths", "limits", "rows"),
    [
        ([30_000] * 20, {}, [2] * 10),
        ([4_000] * 16, {}, [4] * 4),  # of no more than are worth a request
        ([10_000] * 16, {}, [2] * 8),  # a part for each connection
        ([70_000, 10, 70_000], {}, [1, 1, 1]),  # one that is over it alone is not the client's to refuse
        ([500] * 5, {"max_tokens_per_request": 1000}, [2, 2, 1]),
        ([500] * 5, {"max_sequences_per_request": 3}, [3, 2]),
    ],
)
def test_a_large_table_is_cut_to_what_is_scored_within_a_call(
    lengths: list[int], limits: dict[str, int], rows: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert TeacherLimits().max_tokens_per_request > clients.TOKENS_PER_PART
    table = schema.build(
        schema.SEQUENCES,
        {
            "sequence_id": [str(row) for row in range(len(lengths))],
            "prompt_token_ids": [[1] * (length - 1) for length in lengths],
            "response_token_ids": [[2] for _ in lengths],
        },
        tokenizer_fingerprint="f",
    )
    sent: list[int] = []

    async def score(part: pa.Table, _params: Any) -> pa.Table:
        sent.append(part.num_rows)
        return part

    async def body() -> None:
        async with AsyncTeacherClient("http://nowhere") as client:
            monkeypatch.setattr(client, "_info", info(**limits))
            monkeypatch.setattr(client, "_score", score)
            assert (await client.score(table)).equals(table)

    asyncio.run(body())
    assert sent == rows


def test_many_long_texts_are_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [("a prompt", "word " * 5000)] * 4  # 25,000 bytes each, which is the most tokens they can have
    sent: list[list[str]] = []

    async def score(rows: list[dict[str, Any]], _details: Any) -> Any:
        sent.append([row["id"] for row in rows])
        return SimpleNamespace(results=rows, made_with=None)

    async def body() -> None:
        async with AsyncTeacherClient("http://nowhere") as client:
            monkeypatch.setattr(client, "_info", info())
            monkeypatch.setattr(client, "_score_rows", score)
            assert len(await client.score_texts(texts)) == 4

    asyncio.run(body())
    assert sent == [["0", "1"], ["2", "3"]]


def test_texts_of_a_part_that_is_refused_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service names a text by its place in the request, which is a part of what was asked for."""

    async def request(_method: str, _path: str, *, what: str, **_: Any) -> Any:
        raise ServiceError(f"sequences[0]: it is wrong (asked for {what})")

    async def body() -> None:
        async with AsyncTeacherClient("http://nowhere") as client:
            monkeypatch.setattr(client, "_info", info())
            rows = [{"id": str(place), "prompt": "a", "response": "b"} for place in (2, 3)]
            monkeypatch.setattr(client._endpoint, "request", request)
            await client._score_rows(rows, {})

    with pytest.raises(ServiceError, match=r"asked for the scores of the texts from 2 to 3\)$"):
        asyncio.run(body())


@pytest.mark.parametrize(
    ("kind", "limits"),
    [
        (AsyncTeacherClient, (120.0, 600.0)),
        (AsyncVerifierClient, (300.0, 900.0)),
        (AsyncRolloutClient, (600.0, 1800.0)),
    ],
)
def test_each_client_has_limits_of_its_own(kind: type[Connected], limits: tuple[float, float]) -> None:
    async def endpoint(**given: float) -> tuple[float, float]:
        async with kind("http://nowhere", **given) as client:
            return client._endpoint._call_timeout_s, client._endpoint._timeout_s

    assert asyncio.run(endpoint()) == limits
    assert asyncio.run(endpoint(timeout_s=5.0)) == (limits[0], 5.0)
    assert asyncio.run(endpoint(call_timeout_s=5.0)) == (5.0, limits[1])


def test_a_client_that_cannot_be_made_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(ValueError, match="the token has line breaks"):
        TeacherClient("http://nowhere", token="two\nlines")
    assert threading.active_count() == before


@pytest.mark.parametrize("connections", [0, -1])
def test_a_client_without_connections_is_refused(connections: int) -> None:
    with pytest.raises(ValueError, match=rf"{connections} connections to http://nowhere: nothing"):
        TeacherClient("http://nowhere", connections=connections)


def test_a_port_that_is_none_is_named() -> None:
    with (
        TeacherClient("http://127.0.0.1:99999") as teacher,
        pytest.raises(
            ServiceError, match=r"127\.0\.0\.1:99999/v1/info cannot be asked .* ports are from 1 to"
        ),
    ):
        teacher.info()


@pytest.mark.parametrize("told", ['{"model": "m"}', "<html>It works!</html>", "[]"])
@pytest.mark.parametrize(
    "ask",
    [
        lambda url: TeacherClient(url).info(),
        lambda url: TeacherClient(url).tokenizer(),
        lambda url: TeacherClient(url).score_texts([("a", "b")]),
        lambda url: VerifierClient(url).info(),
        lambda url: VerifierClient(url).judge("math", [("5", "5")]),
        lambda url: RolloutClient(url).policy(),
    ],
)
def test_what_answers_at_another_service_s_address_is_no_answer(
    ask: Callable[[str], object], told: str
) -> None:
    async def something(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(told)(scope, receive, send)

    with (
        running(something) as url,
        pytest.raises(ServiceError, match=f"{url}.* is it the address of another"),
    ):
        ask(url)


@pytest.mark.parametrize(
    "ask",
    [
        lambda table: TeacherClient("http://127.0.0.1:1").score(table),
        lambda table: VerifierClient("http://127.0.0.1:1").verify(table),
        lambda table: RolloutClient("http://127.0.0.1:1").generate(table, group_size=1, max_tokens=1),
    ],
)
def test_a_table_of_other_columns_is_named_before_anything_is_asked(
    ask: Callable[[pa.Table], object],
) -> None:
    with pytest.raises(schema.SchemaError, match=r"column '\w+': missing; the table has 'text'$"):
        ask(pa.table({"text": ["a"]}))


def test_a_precision_that_is_none_is_named() -> None:
    with pytest.raises(
        InvalidRequestError, match=r"^hidden: 'float16' is no precision .*float32 and bfloat16"
    ):
        Details(hidden="float16")  # type: ignore[arg-type]


def test_a_client_may_be_closed_again() -> None:
    with TeacherClient("http://127.0.0.1:1") as teacher:
        teacher.close()
    teacher.close()
