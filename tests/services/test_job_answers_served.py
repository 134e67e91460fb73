"""Jobs of a teacher in several parts, against its main route, over real HTTP."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from ray import serve

from rlad_core import schema
from rlad_core.client.forms import ARROW, JSON, TeacherLimits
from services.serve.http.answers import NDJSON
from services.teacher.service import build
from services.teacher.settings import TeacherArgs

pytestmark = pytest.mark.slow

IN_A_REQUEST, ROWS = 8, 30


@pytest.fixture(scope="module")
def http(
    ray_cluster: None, serve_url: str, tiny_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A teacher whose requests are small, with a folder for jobs."""
    args = TeacherArgs(
        model=str(tiny_model.path),
        engine="torch",
        max_model_len=64,
        num_cpus=0.1,
        limits=TeacherLimits(max_sequences_per_request=IN_A_REQUEST),
        jobs_dir=str(tmp_path_factory.mktemp("jobs")),
    )
    serve.run(build(args), name="teacher-jobs", route_prefix="/teacher-jobs")
    with httpx.Client(base_url=f"{serve_url}/teacher-jobs", timeout=60) as client:
        yield client
    serve.delete("teacher-jobs")


def results_of(content: bytes, encoding: str) -> list[dict[str, Any]]:
    """As JSON has them; of a table what all of them have."""
    if encoding == JSON:
        told: list[dict[str, Any]] = json.loads(content)["results"]
        return told
    if encoding == NDJSON:
        *told, last = map(json.loads, content.splitlines())
        assert last["results"] == len(told)
        return told
    table = schema.from_ipc(content)
    names = {"id": "sequence_id", "logprobs": "teacher_logprobs", "entropy": "entropy"}
    return table.select(list(names.values())).rename_columns(list(names)).to_pylist()  # type: ignore[no-any-return]


def close(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> None:
    assert [each["id"] for each in one] == [each["id"] for each in other]
    for left, right in zip(one, other, strict=True):
        for name in ("logprobs", "entropy"):
            np.testing.assert_allclose(left[name], right[name], atol=1e-4)


def test_a_job_of_a_teacher_tells_what_its_route_tells(http: httpx.Client) -> None:
    rows = [
        {"id": f"s{n}", "prompt_token_ids": [5, n], "response_token_ids": [n] * (1 + n % 5)}
        for n in range(6, 6 + ROWS)
    ]
    asked = {"entropy": True, "details": ["hidden"]}
    by_route = [
        result
        for start in range(0, ROWS, IN_A_REQUEST)
        for result in http.post("/v1/score", json={**asked, "sequences": rows[start : start + IN_A_REQUEST]})
        .raise_for_status()
        .json()["results"]
    ]
    few = {**asked, "sequences": rows[:IN_A_REQUEST]}
    for accept in (NDJSON, ARROW):
        streamed = http.post("/v1/score?stream=true", json=few, headers={"Accept": accept})
        close(results_of(streamed.raise_for_status().content, accept), by_route[:IN_A_REQUEST])
    for accept in (JSON, NDJSON, ARROW):
        for coding in ("identity", "gzip"):
            headers = {"Accept": accept, "Accept-Encoding": coding}
            taken = http.post("/v1/jobs", json={**asked, "sequences": rows}, headers=headers)
            place = taken.raise_for_status().headers["location"].removeprefix("/teacher-jobs")
            deadline = time.monotonic() + 120
            while (told := http.get(place).json())["status"] in ("queued", "running"):
                assert time.monotonic() < deadline, told
                time.sleep(0.1)
            assert (told["status"], told["parts"]) == ("done", 4), told
            fetched = http.get(f"{place}/result", headers={"Accept-Encoding": coding}).raise_for_status()
            assert fetched.headers["content-type"] == accept
            assert fetched.headers.get("content-encoding", "identity") == coding
            close(results_of(fetched.content, accept), by_route)
            if accept == JSON:
                whole = fetched.json()
                tokens = sum(1 + n % 5 for n in range(6, 6 + ROWS))
                assert whole["usage"] == {
                    "sequences": ROWS, "prompt_tokens": 2 * ROWS, "scored_tokens": tokens,
                }  # fmt: skip
                assert whole["made_with"] == http.get("/v1/info").json()["made_with"]
                assert len(whole["results"][4]["hidden_states"]) == len(rows[4]["response_token_ids"])
