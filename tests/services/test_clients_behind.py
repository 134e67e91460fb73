"""Whom `ClientsBehind` cuts off, and its limits, by connections of which it is known what lies there."""

import asyncio
import struct
from typing import Any

import pytest

from services.serve.http.slow_clients.clients_behind import LEAST, AnswerLimits, ClientsBehind

MIB = 2**20
TIMEOUT_S = 1.0


class Connection:
    """One of which is known what lies there and what was taken."""

    def __init__(self, lies: int) -> None:
        self.lies = lies
        self.taken = 300  # of the answer's head
        self.file = 3
        self.cut_off = False

    def get_write_buffer_size(self) -> int:
        return self.lies

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else ("10.0.0.7", 1)

    def fileno(self) -> int:
        return self.file

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        return struct.pack("120xQ", self.taken)[:size]

    def setsockopt(self, *_: Any) -> None: ...

    def abort(self) -> None:
        self.cut_off = True


def looked_at(behind: ClientsBehind, times: int) -> None:
    for _ in range(times):
        if behind._timer:
            behind._timer.cancel()
        behind._look()


def test_where_the_kernel_counts_nothing_nobody_is_cut_off_for_it() -> None:
    async def body() -> None:
        behind = ClientsBehind(AnswerLimits(timeout_s=3600))
        uncounted = Connection(LEAST)
        uncounted.taken = 0
        behind.sent(uncounted)  # type: ignore[arg-type]
        looked_at(behind, 200)
        assert not uncounted.cut_off
        uncounted.lies = 0
        looked_at(behind, 1)

    asyncio.run(body())


def test_one_that_answers_no_question_keeps_nobody_from_being_looked_at() -> None:
    async def body() -> None:
        behind = ClientsBehind(AnswerLimits(timeout_s=3600))
        forgotten, _ = connections = [Connection(LEAST) for _ in range(2)]
        for each in connections:
            behind.sent(each)  # type: ignore[arg-type]
        # As asyncio's with TLS that was closed twice.
        vars(forgotten).update(_ssl_protocol=None, get_extra_info=None, get_write_buffer_size=None)
        looked_at(behind, 31)
        assert [each.cut_off for each in connections] == [False, True]
        assert not behind._waits

    asyncio.run(body())


def test_a_client_takes_so_much_in_its_time() -> None:
    async def body() -> None:
        behind = ClientsBehind(AnswerLimits(timeout_s=3600))
        steady, slow, still, engine, gone = connections = [Connection(LEAST) for _ in range(5)]
        for each in connections:
            behind.sent(each)  # type: ignore[arg-type]
        behind.sent(Connection(0))  # type: ignore[arg-type]
        assert list(behind._waits) == connections
        gone.file = -1
        for _ in range(3):
            looked_at(behind, 29)
            steady.taken += LEAST
            engine.lies = 0
            looked_at(behind, 1)
            engine.lies = 1
            behind.sent(engine)  # type: ignore[arg-type]
            slow.taken += LEAST // 2
        assert still.taken == 300
        assert [each.cut_off for each in connections] == [False, True, True, False, False]
        steady.lies = engine.lies = 0
        looked_at(behind, 1)
        assert (behind._waits, behind._timer) == ({}, None)

    asyncio.run(body())


def test_who_has_waited_longest_makes_room_for_others() -> None:
    async def body() -> None:
        behind = ClientsBehind(AnswerLimits(total_bytes=10 * MIB, timeout_s=3600))
        first, second, quick = connections = [Connection(1) for _ in range(3)]
        behind.sent(first, held=6 * MIB)  # type: ignore[arg-type]
        looked_at(behind, 3)
        for each in (second, quick):
            behind.sent(each, held=6 * MIB)  # type: ignore[arg-type]
        for _ in range(20):
            looked_at(behind, 1)
            quick.taken += LEAST
        # Of what is over the limit, what those have who take nothing; they are given some looks.
        assert [each.cut_off for each in connections] == [True, True, False]
        behind.sent(quick)  # type: ignore[arg-type]
        looked_at(behind, 1)
        assert behind._waits[quick].lies == 1  # type: ignore[index]

    asyncio.run(body())


def test_limits_come_from_the_environment() -> None:
    given = {"RLAD_ANSWER_MEMORY_MIB": "2.5", "RLAD_ANSWER_TIMEOUT_S": "3"}
    assert AnswerLimits.of_environment(given) == AnswerLimits(5 * MIB // 2, 3.0)
    assert AnswerLimits.of_environment({}) == AnswerLimits()
    with pytest.raises(ValueError, match="RLAD_ANSWER_TIMEOUT_S: '0' is no positive number"):
        AnswerLimits.of_environment({"RLAD_ANSWER_TIMEOUT_S": "0"})
