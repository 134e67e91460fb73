"""A job's answer, and parts of it, for whoever fetches it: ranges and conditions (RFC 9110, 13 and 14)."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from jobs_of_numbers import ANSWER
from jobs_over_http import left_job, served

from services.serve.http.problems import MEDIA_TYPE
from services.serve.jobs.job import StoredJob

Fetch = Callable[..., Awaitable[httpx.Response]]


def fetched(folder: Path, check: Callable[[Fetch, StoredJob], Awaitable[None]]) -> None:
    """Check what is answered of a job that is done."""

    async def do(_: list[int]) -> None: ...

    async def body() -> None:
        async with served(folder, do) as client:
            place, stored = await left_job(client, folder)

            async def fetch(method: str = "GET", **headers: str) -> httpx.Response:
                named = {name.replace("_", "-"): value for name, value in headers.items()}
                return await client.request(method, f"{place}/result", headers=named)

            await check(fetch, stored)

    asyncio.run(body())


@pytest.fixture(autouse=True)
def no_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=3-9", 3, 10),
        ("bytes=10-", 10, None),
        ("bytes=-4", -4, None),
        ("bytes=-999999999", 0, None),
        ("bytes=5-999999999999", 5, None),
        ("Bytes= 5-6 ", 5, 7),
    ],
)
def test_a_part_of_an_answer(tmp_path: Path, asked: str, start: int, stop: int | None) -> None:
    async def check(fetch: Fetch, _: StoredJob) -> None:
        whole, part = await fetch(), await fetch(Range=asked)
        assert (part.status_code, part.content) == (206, whole.content[start:stop])
        size = len(whole.content)
        first, end, _ = slice(start, stop).indices(size)
        assert part.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
        assert int(part.headers["content-length"]) == len(part.content)
        assert part.headers["etag"] == whole.headers["etag"]
        assert part.headers["content-type"] == whole.headers["content-type"]

    fetched(tmp_path, check)


@pytest.mark.parametrize(
    "asked",
    [
        "items=0-1",
        "bytes=5-1",
        "bytes=-",
        "bytes=",
        "bytes=0-1,3-4",
        "bytes=a-b",
        "bytes=1",
        f"bytes={'9' * 40}-",
    ],
)
def test_what_is_no_range_that_is_read_is_answered_whole(tmp_path: Path, asked: str) -> None:
    async def check(fetch: Fetch, _: StoredJob) -> None:
        told = await fetch(Range=asked)
        assert (told.status_code, told.json()) == (200, ANSWER)
        assert int(told.headers["content-length"]) == len(told.content)
        assert told.headers["accept-ranges"] == "bytes"

    fetched(tmp_path, check)


@pytest.mark.parametrize("asked", ["bytes=9999999-", "bytes=-0", "bytes=9999999-99999999"])
def test_a_part_behind_the_end_is_refused(tmp_path: Path, asked: str) -> None:
    async def check(fetch: Fetch, _: StoredJob) -> None:
        size = len((await fetch()).content)
        told = await fetch(Range=asked)
        assert (told.status_code, told.headers["content-type"]) == (416, MEDIA_TYPE)
        assert told.headers["content-range"] == f"bytes */{size}"
        assert f"{size} bytes" in told.json()["detail"]

    fetched(tmp_path, check)


def test_a_download_that_broke_off_goes_on_with_the_same_answer_only(tmp_path: Path) -> None:
    async def check(fetch: Fetch, _: StoredJob) -> None:
        whole = await fetch()
        tag, content = whole.headers["etag"], whole.content
        assert not tag.startswith("W/")
        assert (await fetch(Range="bytes=7-", If_Range=tag)).content == content[7:]
        for other in ('"other"', f"W/{tag}", "Mon, 30 Nov 2026 00:00:00 GMT"):
            told = await fetch(Range="bytes=7-", If_Range=other)
            assert (told.status_code, told.content) == (200, content)
        assert (await fetch(Range="bytes=7-", If_Match=tag)).status_code == 206
        told = await fetch(Range="bytes=7-", If_Match='"other"')
        assert (told.status_code, told.headers["etag"]) == (412, tag)

    fetched(tmp_path, check)


def test_who_has_it_already_is_told_so(tmp_path: Path) -> None:
    async def check(fetch: Fetch, _: StoredJob) -> None:
        tag = (await fetch()).headers["etag"]
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            told = await fetch(If_None_Match=known)
            assert (told.status_code, told.content, told.headers["etag"]) == (304, b"", tag)
        assert (await fetch(If_None_Match='"other"')).status_code == 200

    fetched(tmp_path, check)


def test_its_head_alone(tmp_path: Path) -> None:
    async def check(fetch: Fetch, _: StoredJob) -> None:
        whole = await fetch()
        for told in (await fetch("HEAD"), await fetch("HEAD", Range="bytes=1-2")):
            assert (told.status_code, told.content) == (200, b"")
            assert dict(told.headers) == dict(whole.headers)

    fetched(tmp_path, check)


def test_what_is_unpacked_for_a_client_is_another_answer_and_has_no_parts(tmp_path: Path) -> None:
    async def check(fetch: Fetch, stored: StoredJob) -> None:
        plain = await fetch(Accept_Encoding="identity")
        packed = gzip.compress(plain.content)
        stored.finish([packed], {"content-type": "application/json", "content-encoding": "gzip"})
        as_kept = await fetch(Accept_Encoding="gzip")
        unpacked = await fetch(Accept_Encoding="identity", Range="bytes=3-")
        assert (unpacked.status_code, unpacked.content) == (200, plain.content)
        assert [each.headers["accept-ranges"] for each in (as_kept, unpacked)] == ["bytes", "none"]
        assert as_kept.headers["etag"] != unpacked.headers["etag"]
        assert int(as_kept.headers["content-length"]) == len(packed)
        told = await fetch("HEAD", Accept_Encoding="identity")
        assert (told.status_code, "content-length" in told.headers) == (200, False)

    fetched(tmp_path, check)


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda content: b"", lambda content: content * 2]
)
def test_an_answer_of_another_length_than_was_written_is_not_told(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    """As a fault of the disk leaves it: it might be taken for the whole."""

    async def check(fetch: Fetch, stored: StoredJob) -> None:
        file, _ = stored.answer
        file.write_bytes(change(content := file.read_bytes()))
        told = await fetch()
        assert (told.status_code, told.json()["title"]) == (500, "The job cannot be read")
        assert f"{len(content)} were written" in told.json()["detail"]

    fetched(tmp_path, check)
