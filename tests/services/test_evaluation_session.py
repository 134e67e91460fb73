"""One model's evaluation goes on only while what it asks for can be kept."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlad_core.tasks import Prompt
from services.clients.responses import Responses
from services.evaluate import session
from services.evaluate.questions import Questions
from services.evaluate.respondents import Answer, Respondent, Wanted
from services.evaluate.store import AnswerStore

QUESTIONS = Questions([Prompt("a", "math", "x", [{"role": "user", "content": "?"}], "5")], samples=1000)
NOBODY: Any = Responses(None, None, 1.0)


class Slow(Respondent):
    """Answers one after another."""

    part, at_most = 1, 1
    identity: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self) -> None:
        self.asked, self.closed = 0, False

    async def answer(self, wanted: Sequence[Wanted]) -> list[Answer]:
        self.asked += 1
        await asyncio.sleep(0.001)
        return [Answer("?", "5", "", "stop", 1) for _ in wanted]

    async def close(self) -> None:
        self.closed = True


class Full(AnswerStore):
    """On a disk that is full until `room`."""

    room = False

    def flush(self) -> None:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().flush()


def test_what_cannot_be_kept_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def judged(services: Responses, given: Sequence[session.Judged]) -> list[dict[str, Any]]:
        return [
            {
                "prompt_id": each.prompt.prompt_id, "task": "math", "subset": each.prompt.subset,
                "sample_index": each.sample, "prompt": "?", "gold": each.prompt.gold, "opened": "",
                "response": "5", "finish_reason": "stop", "tokens": 1, "reward": 1.0, "reward_parts": {},
                "correct": True, "verdict": "right", "fault": "",
            }
            for each in given
        ]  # fmt: skip

    monkeypatch.setattr(session, "judged_rows", judged)
    monkeypatch.setattr(session, "FLUSH_S", 0.01)
    slow = Slow()
    told: list[dict[str, Any]] = []
    with Full(tmp_path, {}, "judge") as store:
        with pytest.raises(OSError, match="No space left"):
            asyncio.run(session.continued(store, slow, NOBODY, QUESTIONS, told.extend))
        assert slow.closed
        assert slow.asked < 1000
        store.room = True
    with AnswerStore(tmp_path, {}, "judge") as store:
        assert len(session.missing(store, QUESTIONS)[1]) == 1000 - len(told)
        asyncio.run(session.continued(store, Slow(), NOBODY, QUESTIONS, told.extend))
        assert session.missing(store, QUESTIONS) == ([], [])
