"""Answers of jobs: what the main route tells, put together part by part."""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from answers_of_jobs import IN_A_PART, MADE_WITH, ROWS, SAMPLES, SERVICES, carried_out, handed_in, reading

from rlad_core import schema
from services.serve.http.answers import AnswerEncoding
from services.serve.http.bodies import Body, whole_answer
from services.serve.http.encodings import packing


def unpacked(content: bytes, coding: str) -> bytes:
    if coding == "gzip":
        return gzip.decompress(content)
    if coding == "zstd":
        return bytes(pa.CompressedInputStream(pa.BufferReader(content), "zstd").read())
    return content


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
@pytest.mark.parametrize("answer", ["json", "ndjson", "arrow"])
@pytest.mark.parametrize("service", SERVICES)
def test_a_job_tells_what_the_route_tells(
    tmp_path: Path, service: str, answer: AnswerEncoding, coding: str
) -> None:
    telling, whole = SERVICES[service]()
    route = whole_answer(telling, whole, Body(b"{}", "json", answer, coding))
    job = handed_in(tmp_path, answer, coding)
    carried_out(tmp_path, job, reading(telling, whole, IN_A_PART))
    file, headers = job.answer
    length = route.headers["content-length"]
    assert {**headers, "content-length": length} == dict(route.headers)
    assert ("content-encoding" in headers) == (coding != "identity")
    assert int(length) == len(route.body)
    told, by_route = (unpacked(each, coding) for each in (file.read_bytes(), bytes(route.body)))
    if answer != "arrow":
        assert told == by_route
        json.loads(told.splitlines()[-1])
    else:
        table = schema.from_ipc(told)
        assert table.equals(schema.from_ipc(by_route), check_metadata=True)
        assert table.equals(whole, check_metadata=True)
        # As one table of all parts would be written.
        parts = [whole.slice(start, IN_A_PART) for start in range(0, ROWS, IN_A_PART)]
        assert told == schema.to_ipc(pa.concat_tables(parts))


@pytest.mark.parametrize("answer", ["json", "ndjson"])
@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_small_answer_is_not_packed(tmp_path: Path, answer: AnswerEncoding, coding: str) -> None:
    telling, whole = SERVICES["verifier"]()
    whole = whole.slice(0, 2)
    job = handed_in(tmp_path, answer, coding)
    carried_out(tmp_path, job, reading(telling, whole, 1))
    file, headers = job.answer
    assert "content-encoding" not in headers
    assert file.read_bytes() == whole_answer(telling, whole, Body(b"{}", "json", answer, coding)).body


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_large_pieces_and_small_ones_are_packed(coding: str) -> None:
    plain = [b"", b"[1,", memoryview(bytes(range(256)) * 20_000), b"", b"]" * 5, b"x" * 3_000_000]
    packed, headers = packing(iter(plain), coding)
    assert headers["Content-Encoding"] == coding
    pieces = list(packed)
    assert max(map(len, pieces)) < 2**21
    assert unpacked(b"".join(pieces), coding) == b"".join(plain)


def test_what_stands_beside_the_results_is_of_all_parts(tmp_path: Path) -> None:
    told = {}
    for service in SERVICES:
        job = handed_in(tmp_path / service)
        carried_out(tmp_path / service, job, reading(*SERVICES[service](), IN_A_PART))
        told[service] = json.loads(job.answer[0].read_bytes())
        assert len(told[service].pop("results")) == ROWS
    tokens = sum(1 + row % 4 for row in range(ROWS))
    assert told == {
        "teacher": {
            "model": "m",
            "policy_version": None,
            "usage": {"sequences": ROWS, "prompt_tokens": tokens, "scored_tokens": tokens},
            "made_with": MADE_WITH.model_dump(),
        },
        "rollout": {
            "model": "m",
            "policy_version": 7,
            "usage": {"prompts": ROWS // SAMPLES, "responses": ROWS, "response_tokens": tokens},
        },
        "verifier": {},
    }
