"""What services tell, as tables made for tests, and jobs that tell it in parts."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from rlad_core import schema
from rlad_core.client.details import Details, answer_schema
from rlad_core.client.made_with import MadeWith, marked
from services.rollout.http import telling as of_rollouts
from services.serve.http.answers import AnswerEncoding, Telling
from services.serve.http.bodies import Body
from services.serve.job_limits import JobLimits
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.store import JobStore
from services.serve.jobs.work import ReadWork, Work
from services.serve.jobs.worker import Jobs
from services.teacher.answers import telling as of_teacher
from services.teacher.reading import Wanted
from services.verifier.http import TELLING as OF_VERIFIER

ROWS, IN_A_PART = 50, 7
DIMENSIONS, SAMPLES = 3, 5
MADE_WITH = MadeWith(engine="torch", weights="those", tokenizer="t", chat_template=None, dtype="float32")


async def until(is_so: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - files are looked at
            await asyncio.sleep(0.02)


def ragged(rows: int, of: Callable[[int], Any]) -> list[Any]:
    """A list a row, of 1 to 4 values."""
    return [[of(row + place) for place in range(1 + row % 4)] for row in range(rows)]


def scores() -> tuple[Telling, pa.Table]:
    """A teacher's, with everything that may be beside log-probs."""
    ids = [f"s{row}" for row in range(ROWS)]
    responses = ragged(ROWS, lambda n: n)
    sequences = schema.build(
        schema.SEQUENCES,
        {"sequence_id": ids, "prompt_token_ids": ragged(ROWS, lambda n: n), "response_token_ids": responses},
        tokenizer_fingerprint="t",
    )
    details = Details(top_k=2, entropy=True, hidden="bfloat16")
    columns: dict[str, Any] = {
        "sequence_id": ids,
        "teacher_logprobs": ragged(ROWS, lambda n: -n / 7),
        "entropy": ragged(ROWS, lambda n: n / 3),
        "top_token_ids": [[id for token in row for id in (token, token + 1)] for row in responses],
        "top_logprobs": [[p for token in row for p in (-token / 9, -token)] for row in responses],
        "hidden_states_bfloat16": [
            [n * DIMENSIONS + d for n in row for d in range(DIMENSIONS)] for row in responses
        ],
    }
    form = answer_schema(details)
    table = schema.build(
        form,
        {name: columns.get(name, [None] * ROWS) for name in form.names},
        tokenizer_fingerprint="t",
    )
    is_text = np.arange(ROWS) % 2 == 0
    wanted = Wanted(sequences, None, details, text_rows=is_text)
    return of_teacher(wanted, model="m"), marked(table, MADE_WITH)


def rollouts() -> tuple[Telling, pa.Table]:
    """A policy's, some to each prompt."""
    names = [f"p{row // SAMPLES}" for row in range(ROWS)]
    tokens = ragged(ROWS, lambda n: n)
    columns = {
        "group_id": names,
        "sample_index": [row % SAMPLES for row in range(ROWS)],
        "prompt_id": names,
        "prompt_token_ids": tokens,
        "response_token_ids": tokens,
        "rollout_logprobs": ragged(ROWS, lambda n: -n / 7),
        "policy_versions": ragged(ROWS, lambda n: n),
        "finish_reason": ["stop", "length"] * (ROWS // 2),
        "response": [f"it is {row} \N{SNOWMAN}" for row in range(ROWS)],
    }
    table = schema.build(schema.ROLLOUTS, columns, tokenizer_fingerprint="t")
    prompts = pa.table({"prompt_id": list(dict.fromkeys(names))})
    return of_rollouts(prompts, model="m", version=lambda: 7), table


def rewards() -> tuple[Telling, pa.Table]:
    """A verifier's."""
    columns = {
        "sequence_id": [f"s{row}" for row in range(ROWS)],
        "reward": [row / 8 for row in range(ROWS)],
        "reward_parts": [{"form": row / 16} for row in range(ROWS)],
        "correct": [row % 2 == 0 for row in range(ROWS)],
        "verdict": [f"row {row}" for row in range(ROWS)],
    }
    return OF_VERIFIER, schema.build(schema.REWARDS, columns, tokenizer_fingerprint=None)


SERVICES = {"teacher": scores, "rollout": rollouts, "verifier": rewards}


def reading(telling: Telling, whole: pa.Table, in_a_part: int) -> ReadWork:
    """Work whose parts are rows of a table."""

    async def read(body: Body, _query: Any) -> Work:
        async def do(rows: pa.Table) -> pa.Table:
            return whole.slice(rows["row"][0].as_py(), rows.num_rows)

        async def check(_: pa.Table) -> None: ...

        rows = pa.table({"row": range(whole.num_rows)})
        starts = range(0, whole.num_rows, in_a_part)
        parts = [(start, min(start + in_a_part, whole.num_rows)) for start in starts]
        return Work(rows, parts, do, telling, check)

    return read


def handed_in(folder: Path, answer: AnswerEncoding = "json", coding: str = "identity") -> StoredJob:
    handed = Handed("me", time.time(), "json", answer, coding, {})
    return JobStore(folder / "teacher").add(handed, b"{}")


def carried_out(folder: Path, job: StoredJob, read: ReadWork, limits: JobLimits | None = None) -> None:
    """A service takes the job up, and it comes to an end of either kind."""

    async def body() -> None:
        jobs = Jobs("teacher", str(folder), limits or JobLimits(), read)
        jobs.start()
        await until(lambda: job.ended is not None)
        await until(lambda: job.status != "running")
        jobs.stop()

    asyncio.run(body())


def being_written(job: StoredJob) -> list[Path]:
    return [file for file in job.folder.iterdir() if file.name.startswith(".")]
