"""A table of no rows is a request like any other: answered with none, whole, in parts, and as a job."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from answers_of_jobs import carried_out, handed_in
from scripted_scoring import ScriptedEngine
from small_tokenizer import READER, TOKENIZER, WORDS

from rlad_core import schema
from services.rollout.sampling import Sampler
from services.rollout.service import RolloutService
from services.rollout.settings import RolloutArgs
from services.rollout.turns import EngineTurns
from services.serve.http.answers import AnswerEncoding
from services.serve.http.bodies import Body, whole_answer
from services.serve.http.streams import streamed
from services.serve.jobs.work import Work
from services.serve.openai.models import ServedModel
from services.serve.shares import QueueShares
from services.teacher.forms import DetailsQuery
from services.teacher.scorer import Scorer
from services.teacher.service import TeacherService
from services.teacher.settings import TeacherArgs
from services.verifier.service import VerifierService
from services.verifier.settings import VerifierArgs

FINGERPRINT = schema.tokenizer_fingerprint(TOKENIZER.get_vocab())


class Intake:
    """Lets all in."""

    in_work = 0

    async def read(self, reading: Callable[..., Any], *given: Any) -> Any:
        return await asyncio.to_thread(reading, *given)

    def charge(self, work: float) -> None: ...


INTAKE: Any = Intake()


def bare(deployment: Any, **parts: Any) -> Any:
    """A replica that was not started, without what Serve puts around its class, of these parts."""
    kind = deployment.func_or_class.__mro__[1]
    replica = kind.__new__(kind)
    for name, part in {"_reader": READER, "_fingerprint": FINGERPRINT, "_intake": INTAKE, **parts}.items():
        setattr(replica, name, part)
    replica._served = ServedModel("m", READER.max_length)
    return replica


async def of_teacher(body: Body) -> Work:
    args, engine = TeacherArgs(model="m"), ScriptedEngine()
    scorer = Scorer(engine, args, FINGERPRINT, INTAKE)
    replica = bare(TeacherService, _args=args, _engine=engine, _scorer=scorer, _texts=None)
    replica._score = lambda rows, details: scorer.score(rows, details)
    return await replica._work(body, DetailsQuery(), args.limits, 64)  # type: ignore[no-any-return]


async def of_rollouts(body: Body) -> Work:
    async def reach(version: int) -> None: ...

    engine: Any = SimpleNamespace(unfinished=lambda: 0)
    held: Any = SimpleNamespace(report={"version": 3}, reach=reach)
    turns, args = EngineTurns(8, {}, 100, engine.unfinished), RolloutArgs(model="m")
    sampler = Sampler(
        engine,
        held,
        turns,
        TOKENIZER,
        fingerprint=FINGERPRINT,
        vocab_size=len(WORDS),
        max_model_len=12,
        timeout_s=30,
    )
    replica = bare(
        RolloutService,
        _args=args,
        _engine=engine,
        _held=held,
        _turns=turns,
        _sampler=sampler,
        _max_model_len=12,
    )
    return await replica._work(body, {"group_size": "2", "max_tokens": "4"}, args.limits)  # type: ignore[no-any-return]


async def of_verifier(body: Body) -> Work:
    async def judge(checks: list[Any], on_taken: Any = None) -> list[Any]:
        return [None for _ in checks]

    args = VerifierArgs()
    pool = SimpleNamespace(tasks=dict.fromkeys(args.tasks), judge=judge, queue_length=0, close=lambda: None)
    shares = QueueShares(100, {}, "responses wait", "responses", 1.0)
    replica = bare(VerifierService, _args=args, _pool=pool, _shares=shares)
    return await replica._work(body, args.limits)  # type: ignore[no-any-return]


SERVICES = {
    "teacher": (of_teacher, schema.SEQUENCES, schema.TEACHER_SCORES),
    "rollouts": (of_rollouts, schema.PROMPTS, schema.ROLLOUTS),
    "verifier": (of_verifier, schema.RESPONSES, schema.REWARDS),
}


def body_of(asked: pa.Schema, answer: AnswerEncoding) -> Body:
    fingerprint = None if asked is schema.RESPONSES else FINGERPRINT
    return Body(schema.to_ipc(schema.build(asked, [], tokenizer_fingerprint=fingerprint)), "arrow", answer)


def check(told: bytes, answer: AnswerEncoding, kind: pa.Schema) -> None:
    if answer == "arrow":
        table = schema.from_ipc(told)
        schema.validate(table, kind)
        assert table.num_rows == 0
    elif answer == "json":
        assert json.loads(told)["results"] == []
    else:
        assert json.loads(told)["results"] == 0


@pytest.mark.parametrize("answer", ["json", "ndjson", "arrow"])
@pytest.mark.parametrize("service", SERVICES)
def test_it_is_answered_whole(service: str, answer: AnswerEncoding) -> None:
    work_of, asked, kind = SERVICES[service]
    body = body_of(asked, answer)

    async def ask() -> bytes:
        work = await work_of(body)
        await work.check(work.rows)
        return bytes(whole_answer(work.telling, await work.do(work.rows), body).body)

    check(asyncio.run(ask()), answer, kind)


@pytest.mark.parametrize("answer", ["ndjson", "arrow"])
@pytest.mark.parametrize("service", SERVICES)
def test_it_is_answered_in_parts(service: str, answer: AnswerEncoding) -> None:
    work_of, asked, kind = SERVICES[service]

    async def ask() -> bytes:
        body = body_of(asked, answer)
        work = await work_of(body)
        response = await streamed(work.done(30, 2), work.telling, body, AsyncExitStack())
        pieces: AsyncIterator[Any] = response._answer.body_iterator  # type: ignore[attr-defined]
        return b"".join([piece async for piece in pieces])

    check(asyncio.run(ask()), answer, kind)


@pytest.mark.parametrize("answer", ["json", "ndjson", "arrow"])
@pytest.mark.parametrize("service", SERVICES)
def test_it_is_a_job(tmp_path: Path, service: str, answer: AnswerEncoding) -> None:
    work_of, asked, kind = SERVICES[service]

    async def read(_: Body, _query: Any) -> Work:
        return await work_of(body_of(asked, answer))

    job = handed_in(tmp_path, answer)
    carried_out(tmp_path, job, read)
    file, _ = job.answer
    check(file.read_bytes(), answer, kind)
