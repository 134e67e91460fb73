"""The memory that a job's answer takes while it is put together."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

LARGE = """
import asyncio, sys, time
from pathlib import Path

import numpy as np
import pyarrow as pa
from rlad_core import schema
from services.serve.http.answers import Telling
from services.serve.job_limits import JobLimits
from services.serve.jobs.job import Handed
from services.serve.jobs.store import JobStore
from services.serve.jobs.work import Work
from services.serve.jobs.worker import Jobs
from services.teacher.answers import telling
from services.teacher.reading import Wanted
from rlad_core.client.details import Details

folder, answer, coding, parts, rows = *sys.argv[1:4], *map(int, sys.argv[4:])
TOKENS, SIZE = 64, 1024


def resident(name):
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def lists(values, length):
    offsets = pa.array(np.arange(0, values.size + 1, length, dtype=np.int32))
    return pa.ListArray.from_arrays(offsets, pa.array(values))


ids = [str(row) for row in range(parts * rows)]
ones = lists(np.ones(len(ids) * TOKENS, np.int32), TOKENS)
sequences = pa.table({"sequence_id": ids, "prompt_token_ids": ones, "response_token_ids": ones})
wanted = Wanted(sequences, None, Details(hidden="float32"))


async def do(part):
    chance = np.random.default_rng(0)
    states = chance.standard_normal(part.num_rows * TOKENS * SIZE, np.float32)
    logprobs = np.zeros(part.num_rows * TOKENS, np.float32)
    return pa.table({
        "sequence_id": part["sequence_id"],
        "teacher_logprobs": lists(logprobs, TOKENS),
        "hidden_states": lists(states, TOKENS * SIZE),
    })


async def read(body, query):
    bounds = [(start, start + rows) for start in range(0, len(ids), rows)]
    return Work(sequences, bounds, do, telling(wanted, model="m"), None)


async def work():
    jobs = Jobs("teacher", folder, JobLimits(), read)
    job = jobs.store.add(Handed("me", time.time(), "json", answer, coding, {}), b"{}")
    jobs.start()
    while job.ended is None:
        await asyncio.sleep(0.05)
    jobs.stop()
    assert job.status == "done", job.problem
    return job


await_first = asyncio.run(do(sequences.slice(0, 1)))  # what is loaded once is
before = resident("VmRSS")
job = asyncio.run(work())
print(job.answer[0].stat().st_size, resident("VmHWM") - before, rows * TOKENS * SIZE * 4)
"""


@pytest.mark.parametrize(
    ("answer", "coding", "parts", "rows"),
    [
        ("arrow", "identity", 48, 4),
        ("json", "identity", 48, 2),
        pytest.param("arrow", "gzip", 48, 32, marks=pytest.mark.long),
        pytest.param("ndjson", "identity", 48, 12, marks=pytest.mark.long),
        pytest.param("json", "zstd", 48, 12, marks=pytest.mark.long),
    ],
)
def test_a_large_answer_takes_the_memory_of_a_part(
    tmp_path: Path, answer: str, coding: str, parts: int, rows: int
) -> None:
    """The peak of the whole job, against what its answer has; in one process, so that nothing else counts."""
    command = [sys.executable, "-c", LARGE, str(tmp_path), answer, coding, str(parts), str(rows)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    size, peak, part = map(int, done.stdout.split())
    print(answer, coding, f"{size / 2**20:.0f} MiB, peak {peak / 2**20:.0f} MiB, part {part / 2**20:.0f} MiB")
    assert size > 20 * part
    assert peak < size / 3
