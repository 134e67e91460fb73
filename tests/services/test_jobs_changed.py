"""A job that is gone on with by a service that has become another one."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from jobs_of_numbers import ANSWER, BODY, Do, reading

from rlad_core import schema
from rlad_core.client.made_with import MadeWith, marked
from services.serve.http.bodies import Body
from services.serve.job_limits import JobLimits
from services.serve.jobs.errors import ChangedError
from services.serve.jobs.work import ReadWork, Work, refuse_mixed
from services.serve.jobs.worker import Jobs


async def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - files are looked at
            await asyncio.sleep(0.02)


def made_with(weights: str, do: Do) -> ReadWork:
    """Work whose parts say of which weights they are."""
    told = MadeWith(engine="torch", weights=weights, tokenizer="t", chat_template=None, dtype="float32")

    async def read(body: Body, query: Any) -> Work:
        work = await reading(do)(body, query)

        async def said(rows: pa.Table) -> pa.Table:
            return marked(await work.do(rows), told)

        return replace(work, do=said)

    return read


@pytest.mark.parametrize(("weights", "status"), [("those", "done"), ("others", "failed")])
def test_parts_of_two_teachers_are_not_one_answer(tmp_path: Path, weights: str, status: str) -> None:
    async def goes(_: list[int]) -> None: ...

    async def stuck(numbers: list[int]) -> None:
        if numbers[0] == 4:
            await asyncio.Event().wait()

    async def body() -> None:
        first = Jobs("teacher", str(tmp_path), JobLimits(), made_with("those", stuck))
        first.start()
        job = await first.submit("me", BODY, {})
        await until(lambda: job.progress[0] == 2)
        first.stop()
        await until(lambda: job.status == "queued")
        second = Jobs("teacher", str(tmp_path), JobLimits(), made_with(weights, goes))
        second.start()
        await until(lambda: job.ended is not None)
        second.stop()
        assert job.status == status
        if status == "done":
            assert json.loads(job.answer[0].read_bytes()) == ANSWER
        else:
            assert job.problem is not None
            assert job.problem["title"] == "The service was changed before the job was done"
            assert "weights: those and others" in job.problem["detail"]

    asyncio.run(body())


def test_parts_of_two_tokenizers_are_not_one_answer() -> None:
    one, other = (
        schema.build(schema.TEACHER_SCORES, [], tokenizer_fingerprint=made) for made in ("one", "other")
    )
    refuse_mixed(one.schema, one.schema)
    with pytest.raises(ChangedError, match="tokenizer: one and other"):
        refuse_mixed(one.schema, other.schema)
