"""Math in the pool of killable workers: what hangs the algebra is stopped, and hurts nothing beside it."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from rlad_core.tasks import shipped
from rlad_core.tasks.base import Verdict
from services.verifier.checking.messages import Check, Failed, Outcome
from services.verifier.checking.pool import CheckPool
from services.verifier.settings import VerifierArgs

MATH = {"math": shipped()["math"]}
LIMIT_S = 3.0
# The first two are the field's examples. As LaTeX they are (9^9)^9 and so on, big but not endless.
SLOW = ["5^5^5^5^5", "9**9**9"]
ENDLESS = ["9^{9^9}", "5^{5^{5^{5^5}}}", "(10^{10})!", "\\binom{10^{12}}{10^{11}}"]


@pytest.fixture(scope="module")
def pool() -> Iterator[CheckPool]:
    pool = CheckPool(MATH, workers=2, time_limit_s=LIMIT_S, memory_limit_bytes=2**29)
    asyncio.run(pool.start())
    yield pool
    pool.close()


def judge(pool: CheckPool, *answers: str, gold: str = "5") -> list[Outcome]:
    gold = json.dumps({"answer": gold})
    return asyncio.run(pool.judge([Check("math", f"\\boxed{{{answer}}}", gold) for answer in answers]))


@pytest.mark.parametrize("answer", [*SLOW, *ENDLESS])
def test_an_endless_answer_is_stopped_and_says_so(pool: CheckPool, answer: str) -> None:
    (outcome,) = judge(pool, answer)
    if isinstance(outcome, Failed):
        assert outcome.kind in ("time", "memory")
    else:
        assert answer in SLOW
        assert not outcome.correct


def test_endless_answers_hurt_nothing_beside_them(pool: CheckPool) -> None:
    answers = ["5", "6"] * 20
    answers[7], answers[21] = ENDLESS[0], ENDLESS[2]
    outcomes = judge(pool, *answers)
    failed = {place for place, outcome in enumerate(outcomes) if isinstance(outcome, Failed)}
    assert failed == {7, 21}
    judged = [outcome.correct for outcome in outcomes if isinstance(outcome, Verdict)]
    assert judged == [answer == "5" for place, answer in enumerate(answers) if place not in failed]


def test_a_new_worker_has_the_algebra_at_hand(pool: CheckPool) -> None:
    judge(pool, *ENDLESS[:2])
    # Loading the algebra anew would take each check over its limit.
    outcomes = judge(pool, "10/2", "\\sqrt{25}", "7")
    assert [isinstance(outcome, Verdict) and outcome.correct for outcome in outcomes] == [True, True, False]


def test_an_empty_reply_never_meets_the_algebra(pool: CheckPool) -> None:
    for response in ("", None):
        outcome = asyncio.run(pool.judge([Check("math", response, json.dumps({"answer": "9^{9^9}"}))]))[0]
        assert isinstance(outcome, Verdict)
        assert not outcome.correct


def test_a_service_takes_the_settings_of_a_recipe() -> None:
    said = VerifierArgs.model_validate({"tasks": {"math": {"settings": {"box": "only"}}}})
    assert said.tasks == {"math": replace(MATH["math"], settings={"box": "only"})}
    assert VerifierArgs().tasks == shipped()
