"""Room for jobs: how many there may be, of all callers and of one, and how much they may take on the disk.

Of the bytes a caller gets more as long as it has no more than seven times what is left free then, the rule of
`services.serve.shares`: one alone comes to seven eighths, so that who comes next finds some. What is new and
does not fit is refused. What was accepted waits: a job for whose next part or answer there is no room is left
until there is, and others are worked on meanwhile. Where it would not fit even alone, it fails.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from rlad_core.client.errors import BusyError, LimitError
from services.serve.http.encodings import Piece
from services.serve.job_limits import JobLimits
from services.serve.jobs.errors import FULL_RETRY_AFTER_S, NoRoomError
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.store import JobStore
from services.serve.shares import MOST_OF_FREE

_GIB = 2**30
_LOOK_EVERY_BYTES = 2**26
_LOOK_AGAIN_S = 30.0


@dataclass(frozen=True)
class _Lack:
    """Of a job that had no room: for how many bytes, what was said of it, and when to look again."""

    bytes: int
    why: str
    again: float


class Room:
    """Of a service's jobs, those of all its replicas.

    Attributes:
        store: where they are.
    """

    def __init__(self, store: JobStore, limits: JobLimits) -> None:
        self.store, self._limits = store, limits
        self._most = limits.max_gib * _GIB
        self._lacks: dict[str, _Lack] = {}

    def add(self, handed: Handed, content: bytes) -> StoredJob:
        """Keep a new job.

        Raises:
            BusyError: as many, or as much, is kept as may be.
            OSError: it cannot be written.
        """
        # No other one, of another replica either, comes between the count and what is added to it.
        with self.store.adding():
            self._make(handed.owner)
            self._refuse_if_full(handed.owner, len(content))
            return self.store.add(handed, content)

    def keep_part(self, job: StoredJob, number: int, part: pa.Table) -> None:
        """A part of a job is done.

        Raises:
            NoRoomError: there is no room for it now.
            LimitError: there never is.
            OSError: it cannot be written.
        """
        self._refuse_over(job, part.nbytes, f"part {number + 1} of this job")
        job.keep_part(number, part)

    def finish(self, job: StoredJob, body: Iterable[Piece], headers: dict[str, str]) -> None:
        """A job has an answer, which is written as it comes.

        Raises:
            NoRoomError, LimitError, OSError: see `keep_part`.
        """
        job.finish(self._fitting(job, body), headers)

    def may_go_on(self, job: StoredJob) -> bool:
        """Whether a job has not lacked room, or has it by now, or its time to wait for some is over."""
        is_late = time.time() - job.handed.created > self._limits.timeout_s
        if is_late or (lack := self._lacks.get(job.id)) is None:
            return True
        return time.monotonic() >= lack.again and self._lack(job, lack.bytes, lack.why) is None

    def why_not(self, job: StoredJob) -> str | None:
        """What was said of a job when it last lacked room; None: it has not."""
        lack = self._lacks.get(job.id)
        return None if lack is None else lack.why

    def _fitting(self, job: StoredJob, body: Iterable[Piece]) -> Iterator[Piece]:
        written = looked = 0
        for piece in body:
            written += len(piece)
            if written - looked >= _LOOK_EVERY_BYTES:
                looked = written
                self._refuse_answer(job, written)
            yield piece
        self._refuse_answer(job, written)

    def _refuse_answer(self, job: StoredJob, size: int) -> None:
        # Its request and parts go when the answer is there.
        self._refuse_over(job, size - job.bytes, "the answer of this job")

    def _make(self, owner: str) -> None:
        """Of cancelled jobs it is told that they are, for as long as no other one wants their place."""
        limits, kept = self._limits, self.store.all()
        own = [job for job in kept if job.handed.owner == owner]
        for jobs, most in ((own, limits.max_jobs_per_caller), (kept, limits.max_jobs)):
            if (over := len(jobs) + 1 - most) > 0:
                for job in [job for job in jobs if job.is_cancelled][:over]:
                    self.store.remove(job)

    def _refuse_if_full(self, owner: str, size: int) -> None:
        limits, kept = self._limits, self.store.all()
        number = sum(job.handed.owner == owner for job in kept)
        own, taken = _bytes_of(kept, owner)
        retry = "Fetch and delete finished ones, or ask again later"
        for there, most, what in (
            (len(kept) + 1, limits.max_jobs, "jobs are kept here"),
            (number + 1, limits.max_jobs_per_caller, "jobs of one caller are kept here"),
            ((taken + size) / _GIB, limits.max_gib, "GiB of jobs are kept here"),
        ):
            if there > most:
                said = f"{most:g} {what} at most, and with this one it would be more"
                raise BusyError(f"{said}. {retry}", FULL_RETRY_AFTER_S)
        if not self._fits(own, taken, size):
            left = MOST_OF_FREE * (self._most - taken) / _GIB
            said = f"{own / _GIB:.3g} GiB of yours are kept here, and with this one it would be more than the"
            raise BusyError(
                f"{said} {left:.3g} that are left for each caller now. {retry}", FULL_RETRY_AFTER_S
            )

    def _refuse_over(self, job: StoredJob, more: int, what: str) -> None:
        most = f"{self._limits.max_gib:g} GiB of jobs are kept here at most, and with {what} it would be more"
        if not self._fits(alone := job.bytes, alone, more):
            again = "Hand it in again as several jobs, or with fewer details"
            raise LimitError("disk", f"{most} than one caller may have of them. {again}")
        why = f"{most} than is left for its caller. Fetch and delete finished ones"
        if (lack := self._lack(job, more, why)) is not None:
            raise NoRoomError(lack.why)

    def _lack(self, job: StoredJob, more: int, why: str) -> _Lack | None:
        """Look whether a job has room for so many bytes more, and keep in mind that it has not."""
        kept = self.store.all()
        lacks = {each.id: self._lacks[each.id] for each in kept if each.id in self._lacks}
        lacks.pop(job.id, None)
        lack = None
        if not self._fits(*_bytes_of(kept, job.handed.owner), more):
            lack = lacks[job.id] = _Lack(more, why, time.monotonic() + _LOOK_AGAIN_S)
        self._lacks = lacks
        return lack

    def _fits(self, own: int, taken: int, more: int) -> bool:
        """Whether so many bytes more fit.

        Args:
            own: of the caller's jobs.
            taken: of all.
        """
        free = self._most - taken
        return more <= 0 or (more <= free and own + more <= MOST_OF_FREE * free)


def _bytes_of(jobs: Iterable[StoredJob], owner: str) -> tuple[int, int]:
    """Those of a caller, and of all."""
    own = taken = 0
    for job in jobs:
        taken += (size := job.bytes)
        own += size if job.handed.owner == owner else 0
    return own, taken
