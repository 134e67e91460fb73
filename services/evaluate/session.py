"""One model's evaluation: what is missing is asked for and judged, a few parts at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from rlad_core.client.errors import ServiceError
from rlad_core.evaluation import PER_TOKEN
from rlad_core.waiting import all_of
from services.clients.responses import Responses
from services.evaluate.judging import Judged, judged_rows
from services.evaluate.questions import Questions
from services.evaluate.respondents import Answer, Respondent, Wanted
from services.evaluate.store import AnswerStore

FLUSH_S = 2.0
"""What a kill may lose of what was judged."""
MOST_FAILURES = 10
"""After so many parts that were refused, nobody asks on."""

Told = Callable[[Sequence[dict[str, Any]]], None]
"""Is told rows of ANSWERS as they are made."""


class IncompleteError(Exception):
    """Some responses could not be had; says how many, and the first reason."""


async def answer_all(
    respondent: Respondent, services: Responses, wanted: Sequence[Wanted], questions: Questions, told: Told
) -> None:
    """Ask and judge; whatever is done is told, also where others fail.

    Raises:
        IncompleteError: some were refused, or did not come in time.
        TimeoutError: the verifier did not answer.
    """
    failures: list[Exception] = []
    parts = iter(wanted[start : start + respondent.part] for start in range(0, len(wanted), respondent.part))

    async def work() -> None:
        for part in parts:
            if len(failures) >= MOST_FAILURES:
                return
            try:
                answers = await respondent.answer(part)
            except (ServiceError, TimeoutError) as error:
                failures.append(error)
                continue
            given = [
                Judged(asked, each.sample, answer)
                for each, answer in zip(part, answers, strict=True)
                for asked in questions.asked_as(each.prompt)
            ]
            told(await judged_rows(services, given))

    await all_of(work() for _ in range(min(respondent.at_most, -(-len(wanted) // respondent.part))))
    if failures:
        gave_up = ", and nobody asked on" if len(failures) >= MOST_FAILURES else ""
        raise IncompleteError(f"{len(failures)} requests failed{gave_up}; the first: {failures[0]}")


async def continued(
    store: AnswerStore, respondent: Respondent, services: Responses, questions: Questions, told: Told
) -> None:
    """Ask for what a store lacks, and keep it there.

    Raises:
        IncompleteError, TimeoutError: see `answer_all`. What was done until then is kept.
        OSError: it cannot be kept.
    """
    again, wanted = missing(store, questions)

    def keep(rows: Sequence[dict[str, Any]]) -> None:
        store.add(rows)
        told(rows)

    over = asyncio.Event()

    async def work() -> None:
        try:
            for part in _in_parts(again, 64):
                keep(await judged_rows(services, part))
            await answer_all(respondent, services, wanted, questions, keep)
        finally:
            over.set()

    try:
        # Together: what cannot be written any more is not asked for.
        await all_of([work(), _flushed(store, over)])
    finally:
        await respondent.close()
        store.flush()


def missing(store: AnswerStore, questions: Questions) -> tuple[list[Judged], list[Wanted]]:
    """What is only to be judged, and what is to be asked for."""
    again: list[Judged] = []
    wanted: list[Wanted] = []
    for each in questions.wanted():
        prompt_id = each.prompt.prompt_id
        lacking = [
            asked
            for asked in questions.asked_as(each.prompt)
            if store.gold(prompt_id, asked.subset, each.sample) != asked.gold
        ]
        if not lacking:
            continue
        if (row := store.response(prompt_id, each.sample)) is None:
            wanted.append(each)
        else:
            again += [Judged(asked, each.sample, _kept(row)) for asked in lacking]
    return again, wanted


def _kept(row: dict[str, Any]) -> Answer:
    values = {name: np.asarray(row[name]) for name in PER_TOKEN if row.get(name) is not None}
    texts = {name: row[name] for name in ("prompt", "response", "opened", "finish_reason")}
    return Answer(**texts, tokens=row["tokens"], values=values)


def _in_parts(given: Sequence[Judged], size: int) -> Iterator[Sequence[Judged]]:
    for start in range(0, len(given), size):
        yield given[start : start + size]


async def _flushed(store: AnswerStore, over: asyncio.Event) -> None:
    """Every `FLUSH_S` seconds, until it is over."""
    while not over.is_set():
        with suppress(TimeoutError):
            await asyncio.wait_for(over.wait(), FLUSH_S)
        store.flush()
