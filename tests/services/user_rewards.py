"""A pool that judges by one reward function of a user's."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlad_core.tasks.base import TaskSpec, Verdict
from services.verifier.checking.messages import Check, Failed, Outcome
from services.verifier.checking.pool import CheckPool

HELPER = """\
kept = []


def divide(value):
    return value / 0
"""


class Judging:
    """A pool with the function, and the one event loop it is used on."""

    def __init__(self, runner: asyncio.Runner, pool: CheckPool) -> None:
        self.run, self.pool = runner.run, pool

    def __call__(self, *responses: str | None) -> list[Outcome]:
        gold = json.dumps({"gold": 1, "row": {"folder": os.getcwd()}})
        return self.run(self.pool.judge([Check("mine", response, gold) for response in responses]))

    def why(self, response: str) -> str:
        """What is said of it. Its neighbours, before and after, keep their verdicts."""
        before, outcome, *after = self(*["right"] * 1, response, *["right", "wrong"] * 10)
        verdicts = [each for each in (before, *after) if isinstance(each, Verdict)]
        assert [verdict.correct for verdict in verdicts] == [True, *[True, False] * 10]
        return outcome.why if isinstance(outcome, Failed) else f"judged {outcome.reward:g}"


@contextmanager
def judging(path: Path, *, workers: int = 1, memory_limit_bytes: int = 2**28) -> Iterator[Judging]:
    """A started pool for a reward function."""
    spec = TaskSpec("rlad_core.tasks.prompts.task:Prompts", {"reward": f"{path}:score"})
    pool = CheckPool({"mine": spec}, workers=workers, time_limit_s=1.0, memory_limit_bytes=memory_limit_bytes)
    with asyncio.Runner() as runner:
        try:
            runner.run(pool.start())
            yield Judging(runner, pool)
        finally:
            pool.close()
