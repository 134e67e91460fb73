"""A teacher that many groups ask, see `services.clients.shared_calls`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pyarrow as pa

from services.clients.shared_calls import SharedCalls
from services.clients.teachers.interface import Teacher


class SharedTeacher(Teacher):
    """Asks for small groups together that come while it is asked for others.

    Args:
        teacher: asked.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._calls: dict[tuple[tuple[int, ...], int], SharedCalls] = {}

    async def score(self, sequences: pa.Table, end_token_ids: Sequence[int] = (), top_k: int = 0) -> pa.Table:
        """See `Teacher.score`; rows may come in another order."""
        wanted = tuple(end_token_ids), top_k
        if wanted not in self._calls:
            self._calls[wanted] = SharedCalls(
                partial(self._teacher.score, end_token_ids=end_token_ids, top_k=top_k)
            )
        return await self._calls[wanted](sequences)
