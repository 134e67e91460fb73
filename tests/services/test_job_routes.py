"""Jobs over HTTP: handed in, looked at, fetched and cancelled, also by another process than took them."""

import asyncio
import contextlib
import gzip
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest
from fastapi import FastAPI, Request
from jobs_of_numbers import ANSWER, BODY, PARTS
from jobs_over_http import done_job, left_job, served
from ray import serve
from starlette.types import Message

from rlad_core import schema
from rlad_core.client.details import Details
from rlad_core.client.forms import ARROW, JSON
from services.cli.service_settings import read_args, with_tasks
from services.rollout import service as rollout
from services.serve.http.answers import NDJSON
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.sending import sent
from services.serve.jobs.store import JobStore
from services.teacher import service as teacher
from services.teacher.asked import in_query
from services.verifier import service as verifying


def test_routes_and_whom_a_job_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RLAD_API_TOKENS", "mine,theirs")
    mine, theirs = ({"Authorization": f"Bearer {token}"} for token in ("mine", "theirs"))
    gate = asyncio.Event()

    async def do(_: list[int]) -> None:
        await gate.wait()

    async def body() -> None:
        async with served(tmp_path, do) as client:
            taken = await client.post("/v1/jobs", content=BODY.content, headers=mine)
            assert taken.status_code == 202
            place = taken.headers["location"]
            assert place == f"/v1/jobs/{taken.json()['id']}"
            assert taken.json()["status"] in ("queued", "running")
            for method, path in (("GET", place), ("DELETE", place), ("GET", f"{place}/result")):
                assert (await client.request(method, path, headers=theirs)).status_code == 404
                assert (await client.request(method, path)).status_code == 401
            unfinished = await client.get(f"{place}/result", headers=mine)
            assert (unfinished.status_code, unfinished.headers["retry-after"]) == (409, "2")
            gate.set()
            while (looked := await client.get(place, headers=mine)).json()["status"] != "done":  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert (looked.json()["parts_done"], looked.json()["parts"]) == (PARTS, PARTS)
            assert looked.json()["expires"] > looked.json()["ended"]
            fetched = await client.get(f"{place}/result", headers=mine)
            assert fetched.headers["content-type"] == "application/json"
            assert fetched.json() == ANSWER

            gate.clear()
            second = (await client.post("/v1/jobs", content=BODY.content, headers=mine)).headers["location"]
            cancelled = await client.delete(second, headers=mine)
            assert cancelled.json()["status"] == "cancelled"
            assert (await client.get(f"{second}/result", headers=mine)).status_code == 410
            folder = tmp_path / "teacher" / second.rpartition("/")[2]
            assert not (folder / "request").exists()

    asyncio.run(body())


def test_an_answer_that_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        async with served(tmp_path, do) as client:
            place = await done_job(client)
            whole = StoredJob.answer.fget
            assert whole is not None

            def removed_after(job: StoredJob) -> tuple[Path, dict[str, str]]:
                file, headers = whole(job)
                file.unlink()
                return file, headers

            # Its time is over just when it is fetched: before it is opened, or after.
            stored = JobStore(tmp_path / "teacher").get(place.rpartition("/")[2])
            assert stored is not None
            kept = whole(stored)[0].read_bytes()
            opened = sent(stored, Request({"type": "http", "headers": []}))
            monkeypatch.setattr(StoredJob, "answer", property(removed_after))
            assert (await client.get(f"{place}/result")).status_code == 404
            transport = httpx.ASGITransport(opened)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as late:
                assert (await late.get("/")).content == kept

    asyncio.run(body())


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_an_answer_is_unpacked_for_who_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coding: str
) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        async with served(tmp_path, do) as client:
            place, stored = await left_job(client, tmp_path)
            plain = stored.answer[0].read_bytes()
            packed = (
                gzip.compress(plain) if coding == "gzip" else pa.Codec("zstd").compress(plain, asbytes=True)
            )
            stored.finish([packed], {"content-type": "application/json", "content-encoding": coding})
            for accepted, as_packed in ((coding, True), ("identity", False), ("br", False)):
                headers = {"Accept-Encoding": accepted}
                async with client.stream("GET", f"{place}/result", headers=headers) as told:
                    sent = b"".join([part async for part in told.aiter_raw()])
                assert (told.status_code, told.headers["content-type"]) == (200, "application/json")
                assert told.headers.get("content-encoding") == (coding if as_packed else None)
                assert sent == (packed if as_packed else plain)

    asyncio.run(body())


def test_who_fetches_an_answer_has_a_place_until_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        async with served(tmp_path, do, max_ongoing_requests=1, max_queued_requests=1) as client:
            path = f"{await done_job(client)}/result"
            transport = client._transport
            assert isinstance(transport, httpx.ASGITransport)
            taken, stays, begun = asyncio.Event(), asyncio.Event(), list[int | None]()

            async def slowly(message: Message) -> None:
                begun.append(message.get("status"))
                await taken.wait()

            async def receive() -> Message:
                await stays.wait()
                return {"type": "http.disconnect"}

            scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "root_path": ""}
            scope |= {"headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "asgi": {}}
            fetching = [asyncio.create_task(transport.app({**scope}, receive, slowly)) for _ in range(2)]
            async with asyncio.timeout(30):
                while begun != [200, 200]:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            refused = await client.get(path)
            assert refused.status_code == 429
            assert "are worked on or wait here" in refused.json()["detail"]
            assert (await client.get(path.removesuffix("/result"))).status_code == 200
            taken.set()
            await asyncio.gather(*fetching)
            assert (await client.get(path)).status_code == 200
            assert (await client.get("/v1/jobs/1/result")).status_code == 404
            assert (await client.get(path)).status_code == 200

    asyncio.run(body())


def test_without_a_folder_there_are_no_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        async with served(None, do) as client:
            refused = await client.post("/v1/jobs", content=BODY.content)
            assert refused.status_code == 501
            assert "--set jobs_dir=FOLDER" in refused.json()["detail"]
            assert (await client.get("/v1/jobs/1")).status_code == 501

    asyncio.run(body())


@pytest.mark.parametrize(
    ("app", "main"),
    [(teacher.http, "/v1/score"), (rollout.http, "/v1/rollouts"), (verifying.http, "/v1/verify")],
)
def test_a_job_is_documented_as_the_route_that_it_stands_for(app: FastAPI, main: str) -> None:
    paths = app.openapi()["paths"]
    asked, handed_in = paths[main]["post"], paths["/v1/jobs"]["post"]
    fetched = paths["/v1/jobs/{job_id}/result"]["get"]
    assert handed_in["requestBody"] == asked["requestBody"]
    assert fetched["responses"]["200"] == asked["responses"]["200"]
    of_job, of_main = (
        {each["name"]: each for each in operation.get("parameters", [])} for operation in (handed_in, asked)
    )
    assert "stream" in of_main
    assert of_job == of_main


def test_a_query_that_is_none_is_refused_with_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RLAD_API_TOKENS", raising=False)

    async def body() -> None:
        async def do(_: list[int]) -> None: ...

        async with served(tmp_path, do) as client:
            refused = await client.post("/v1/jobs?top_k=-1", content=BODY.content)
            assert (refused.status_code, refused.json()["errors"][0]["path"]) == (422, "query.top_k")
            misspelled = await client.post("/v1/jobs?topk=1", content=BODY.content)
            assert (misspelled.status_code, misspelled.json()["errors"][0]["path"]) == (422, "query.topk")
            taken = await client.post("/v1/jobs?top_k=2&details=hidden&stream=true", content=BODY.content)
            assert taken.status_code == 202
            unlucky = await client.post("/v1/jobs", content=b"[1, 2, 13]")
            assert (unlucky.status_code, unlucky.json()["detail"]) == (422, "13 is not doubled")
            job = JobStore(tmp_path / "teacher").get(taken.json()["id"])
            assert job is not None
            assert in_query(job.handed.query).asked == Details(2, hidden="float32")

    asyncio.run(body())


# Over real HTTP


def finished(client: httpx.Client, service: str, place: str, seconds: float = 120) -> httpx.Response:
    deadline = time.monotonic() + seconds
    while (told := client.get(place).raise_for_status().json())["status"] in ("queued", "running"):
        assert time.monotonic() < deadline, told
        time.sleep(0.1)
    assert told["status"] == "done", told
    return client.get(f"{place}/result").raise_for_status()


@pytest.mark.slow
def test_a_job_answers_what_the_route_answers(http: httpx.Client) -> None:
    asked = {"sequences": [{"prompt_token_ids": [5, n], "response_token_ids": [n, 9]} for n in range(6, 40)]}
    direct = http.post("/teacher/v1/score", json=asked).raise_for_status().json()
    taken = http.post("/teacher/v1/jobs", json=asked)
    assert taken.status_code == 202, taken.text
    by_job = finished(http, "teacher", taken.headers["location"]).json()
    assert by_job["usage"] == direct["usage"]
    for one, other in zip(by_job["results"], direct["results"], strict=True):
        np.testing.assert_allclose(one["logprobs"], other["logprobs"], atol=1e-4)

    table = schema.build(
        schema.SEQUENCES,
        {"sequence_id": ["a"], "prompt_token_ids": [[5, 6]], "response_token_ids": [[6, 9]]},
        tokenizer_fingerprint=http.get("/teacher/v1/info").json()["tokenizer_fingerprint"],
    )
    as_arrow = http.post(
        "/teacher/v1/jobs?top_k=2", content=schema.to_ipc(table), headers={"Content-Type": ARROW}
    )
    fetched = finished(http, "teacher", as_arrow.headers["location"])
    assert fetched.headers["content-type"] == ARROW
    told = schema.from_ipc(fetched.content)
    assert len(told["top_token_ids"][0]) == 4
    np.testing.assert_allclose(
        told["teacher_logprobs"][0].as_py(), direct["results"][0]["logprobs"], atol=1e-4
    )

    sampling = {"group_size": 2, "max_tokens": 4, "seed": 1}
    prompts = {"prompts": [{"prompt_token_ids": [5, 6]}], "sampling": sampling}
    rollouts = http.post("/rollout/v1/jobs", json=prompts)
    sampled = finished(http, "rollout", rollouts.headers["location"]).json()["results"]
    assert [response["sample_index"] for response in sampled] == [0, 1]

    wrong = http.post("/teacher/v1/jobs", json={"sequences": [{"prompt_token_ids": [5]}]})
    assert (wrong.status_code, wrong.headers["content-type"]) == (422, "application/problem+json")
    judged = {"task": "none", "gold": "5", "responses": [{"response": "5"}]}
    unknown = http.post("/verifier/v1/jobs", json=judged)
    assert (unknown.status_code, "is not judged here" in unknown.json()["detail"]) == (404, True)


SLOW = """
import time


def score(response, gold, row):
    time.sleep(0.3)
    return float(gold in response)
"""


@pytest.fixture
def verifier(ray_cluster: None, serve_url: str, tmp_path: Path) -> Iterator[Callable[[], httpx.Client]]:
    """Starts a verifier of slow checks with a folder for jobs, anew each time."""
    (tmp_path / "slow.py").write_text(SLOW)
    settings = {
        **with_tasks({}, [f"{tmp_path}/slow.py:score"]),
        "jobs_dir": str(tmp_path / "jobs"),
        "limits": {"max_responses_per_request": 4},
        "num_cpus": 0.1,
        "workers": 1,
    }
    clients: list[httpx.Client] = []

    def started() -> httpx.Client:
        serve.delete("jobs")
        serve.run(verifying.build(read_args("verifier", settings, None)), name="jobs", route_prefix="/jobs")
        clients.append(httpx.Client(base_url=f"{serve_url}/jobs", timeout=60))
        return clients[-1]

    yield started
    serve.delete("jobs")
    for client in clients:
        client.close()


@pytest.mark.slow
def test_a_job_in_several_parts_answers_what_the_route_answers(
    verifier: Callable[[], httpx.Client],
) -> None:
    client = verifier()
    responses = [{"id": f"r{n}", "response": f"it is {n}, " + "and so on " * 30} for n in range(8)]

    def asked(some: list[dict[str, str]]) -> dict[str, Any]:
        return {"task": "score", "gold": "5", "responses": some}

    by_route = [
        result
        for some in (responses[:4], responses[4:])  # more than these are no request's
        for result in client.post("/v1/verify", json=asked(some)).raise_for_status().json()["results"]
    ]
    assert [result["id"] for result in by_route if result["reward"]] == ["r5"]
    for accept in (JSON, NDJSON, ARROW):
        for coding in ("identity", "gzip"):
            headers = {"Accept": accept, "Accept-Encoding": coding}
            taken = client.post("/v1/jobs", json=asked(responses), headers=headers)
            place = taken.raise_for_status().headers["location"].removeprefix("/jobs")
            fetched = finished(client, "verifier", place)
            assert fetched.headers["content-type"] == accept
            if accept == JSON:
                assert fetched.json() == {"results": by_route}
            elif accept == NDJSON:
                lines = [json.loads(line) for line in fetched.content.splitlines()]
                assert lines == [*by_route, {"results": 8}]
            else:
                told = schema.from_ipc(fetched.content).select(["sequence_id", "reward"]).to_pylist()
                assert told == [{"sequence_id": each["id"], "reward": each["reward"]} for each in by_route]


@pytest.mark.slow
def test_a_job_outlives_the_service(verifier: Callable[[], httpx.Client]) -> None:
    client = verifier()
    responses = [{"id": f"r{n}", "response": f"it is {n}"} for n in range(40)]
    asked = {"task": "score", "gold": "7", "responses": responses}
    assert client.post("/v1/verify", json=asked).status_code == 413  # more than a request may have
    place = client.post("/v1/jobs", json=asked).headers["location"].removeprefix("/jobs")
    deadline = time.monotonic() + 60
    while (told := client.get(place).json())["parts_done"] < 2:
        assert time.monotonic() < deadline, told
        time.sleep(0.05)
    assert told["parts"] == 10
    assert told["status"] == "running"
    client = verifier()
    again = client.get(place).json()
    assert again["status"] in ("queued", "running")
    assert 2 <= again["parts_done"] < 10
    answer = finished(client, "verifier", place).json()["results"]
    assert [each["id"] for each in answer] == [f"r{n}" for n in range(40)]
    assert [each["id"] for each in answer if each["reward"]] == ["r7", "r17", "r27", "r37"]
    assert client.delete(place).json()["status"] == "cancelled"
    assert client.get(f"{place}/result").status_code == 410


@pytest.mark.slow
def test_a_large_answer_waits_in_its_file_for_who_reads_slowly(
    verifier: Callable[[], httpx.Client], tmp_path: Path
) -> None:
    """And not in Serve, which keeps all that a replica sends."""
    client, size = verifier(), 64 * 2**20
    handed = Handed("127.0.0.1", time.time(), "json", "json", "identity", {})
    job = JobStore(tmp_path / "jobs" / "verifier").add(handed, b"{}")
    job.finish([b"x" * 2**20] * 64, {"content-type": JSON})

    def read_to() -> int:
        """How far a process has read the answer."""
        found = [0]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                found += [file.position for file in process.open_files() if file.path == str(job.answer[0])]
        return max(found)

    small = [(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)]
    with (
        httpx.Client(timeout=60, transport=httpx.HTTPTransport(socket_options=small)) as slow,
        slow.stream("GET", f"{client.base_url}v1/jobs/{job.id}/result") as told,
    ):
        pieces = told.raise_for_status().iter_raw(2**16)
        came, before = len(next(pieces)), -1
        while before != (now := read_to()) or not now:  # until it stands still
            before = now
            time.sleep(1.0)
        assert now < size / 2
        assert came + sum(map(len, pieces)) == size
