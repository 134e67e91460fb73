"""All jobs of a caller, over HTTP: whose number was lost, or who cleans up, finds them there."""

import asyncio
from pathlib import Path

import pytest
from jobs_of_numbers import BODY
from jobs_over_http import served

MINE, THEIRS = ({"Authorization": f"Bearer {token}"} for token in ("mine", "theirs"))


def test_a_caller_finds_the_own_jobs_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAD_API_TOKENS", "mine,theirs")

    async def do(_: list[int]) -> None:
        await asyncio.Event().wait()

    async def body() -> None:
        async with served(tmp_path, do) as client:
            assert (await client.get("/v1/jobs", headers=MINE)).json() == {"jobs": []}
            asked = [await client.post("/v1/jobs", content=BODY.content, headers=MINE) for _ in range(3)]
            other = await client.post("/v1/jobs", content=BODY.content, headers=THEIRS)
            first, second, third = (each.headers["location"] for each in asked)
            await client.delete(second, headers=MINE)
            listed = (await client.get("/v1/jobs", headers=MINE)).json()["jobs"]
            assert [f"/v1/jobs/{job['id']}" for job in listed] == [third, second, first]
            assert listed[1] == (await client.get(second, headers=MINE)).json()
            assert listed[1]["status"] == "cancelled"
            [listed] = (await client.get("/v1/jobs", headers=THEIRS)).json()["jobs"]
            assert listed["id"] == other.json()["id"]
            assert (await client.get("/v1/jobs")).status_code == 401

    asyncio.run(body())


@pytest.mark.parametrize("name", ["job.json", "plan"])
def test_one_that_cannot_be_read_hides_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def do(_: list[int]) -> None:
        await asyncio.Event().wait()

    async def body() -> None:
        async with served(tmp_path, do) as client:
            garbled, fine = [
                (await client.post("/v1/jobs", content=BODY.content)).json()["id"] for _ in range(2)
            ]
            folder = tmp_path / "teacher" / garbled
            async with asyncio.timeout(30):  # written when it is taken up, and not again
                while not (folder / "plan").exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            (folder / name).write_bytes(b"\xff")
            listed = (await client.get("/v1/jobs")).json()["jobs"]
            assert [job["id"] for job in listed] == [fine]

    asyncio.run(body())


def test_a_service_without_a_folder_for_jobs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def do(_: list[int]) -> None: ...

    async def body() -> None:
        async with served(None, do) as client:
            told = await client.get("/v1/jobs")
            assert (told.status_code, told.json()["title"]) == (501, "No jobs are kept here")

    asyncio.run(body())
