"""Room for jobs: how many there may be, of all callers and of one, and how much they may take on the disk."""

from collections.abc import Iterable, Iterator

import pyarrow as pa

from rlad_core.client.errors import BusyError, LimitError
from services.serve.http.encodings import Piece
from services.serve.job_limits import JobLimits
from services.serve.jobs.errors import FULL_RETRY_AFTER_S
from services.serve.jobs.store import Handed, JobStore, StoredJob

_LOOK_EVERY_BYTES = 2**26


class Room:
    """Of a service's jobs, those of all its replicas."""

    def __init__(self, store: JobStore, limits: JobLimits) -> None:
        self._store, self._limits = store, limits

    def add(self, handed: Handed, content: bytes) -> StoredJob:
        """Keep a new job.

        Raises:
            BusyError: as many, or as much, is kept as may be.
            OSError: it cannot be written.
        """
        # No other one, of another replica either, comes between the count and what is added to it.
        with self._store.adding():
            self._make(handed.owner)
            self._refuse_if_full(handed.owner, len(content))
            return self._store.add(handed, content)

    def keep_part(self, job: StoredJob, number: int, part: pa.Table) -> None:
        """A part of a job is done.

        Raises:
            LimitError: there is no room for it.
            OSError: it cannot be written.
        """
        self._refuse_over_gib(part.nbytes, f"part {number + 1} of this job")
        job.keep_part(number, part)

    def finish(self, job: StoredJob, body: Iterable[Piece], headers: dict[str, str]) -> None:
        """A job has an answer, which is written as it comes.

        Raises:
            LimitError: there is no room for it.
            OSError: it cannot be written.
        """
        job.finish(self._fitting(job, body), headers)

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
        self._refuse_over_gib(size - job.bytes, "the answer of this job")

    def _make(self, owner: str) -> None:
        """Of cancelled jobs it is told that they are, for as long as no other one wants their place."""
        limits, kept = self._limits, self._store.all()
        own = [job for job in kept if job.handed.owner == owner]
        for jobs, most in ((own, limits.max_jobs_per_caller), (kept, limits.max_jobs)):
            if (over := len(jobs) + 1 - most) > 0:
                for job in [job for job in jobs if job.is_cancelled][:over]:
                    self._store.remove(job)

    def _refuse_if_full(self, owner: str, size: int) -> None:
        limits, kept = self._limits, self._store.all()
        own = sum(job.handed.owner == owner for job in kept)
        taken = sum(job.bytes for job in kept) + size
        for there, most, what in (
            (len(kept) + 1, limits.max_jobs, "jobs are kept here"),
            (own + 1, limits.max_jobs_per_caller, "jobs of one caller are kept here"),
            (taken / 2**30, limits.max_gib, "GiB of jobs are kept here"),
        ):
            if there > most:
                raise BusyError(
                    f"{most:g} {what} at most, and with this one it would be more. Fetch and delete finished "
                    "ones, or ask again later",
                    FULL_RETRY_AFTER_S,
                )

    def _refuse_over_gib(self, more: int, what: str) -> None:
        most = self._limits.max_gib
        if sum(job.bytes for job in self._store.all()) + more > most * 2**30:
            raise LimitError(
                "bytes",
                f"{most:g} GiB of jobs are kept here at most, and with {what} it would be more. Fetch and "
                "delete finished ones, or hand it in again as several jobs, or with fewer details",
            )
