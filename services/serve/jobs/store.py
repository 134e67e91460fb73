"""All jobs of a service, in a folder that its replicas share; of one tells `services.serve.jobs.job`."""

import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path

from services.base import telemetry
from services.serve.jobs.errors import UnreadableJobError
from services.serve.jobs.files import write_pieces
from services.serve.jobs.job import Handed, StoredJob
from services.serve.jobs.lease import waited_for

_ADDING_S = 30.0
_ID = re.compile(r"[0-9a-f]{32}")


class JobStore:
    """All jobs of a service.

    Raises:
        OSError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder = folder
        # Names of those that cannot be read, and of which that is said.
        self._left_alone: set[str] = set()
        # Names of those that have ended and lie here yet: what has ended stays so, and there may be many.
        self._ended: frozenset[str] = frozenset()

    def adding(self) -> AbstractContextManager[None]:
        """Wait until nobody else, in whichever process, counts jobs to add one, and be the one who does.

        Raises:
            TimeoutError: somebody else does not come to an end with it.
        """
        return waited_for(self._folder / ".adding", _ADDING_S, "another replica to keep the job that it has")

    def add(self, handed: Handed, body: bytes) -> StoredJob:
        """Keep a new job; it is there whole or not at all."""
        name = uuid.uuid4().hex
        made = self._folder / f".{name}"
        made.mkdir(mode=0o700)
        try:
            write_pieces(made / "request", [body])
            write_pieces(made / "job.json", [json.dumps(asdict(handed)).encode()])
            made.replace(self._folder / name)
        except OSError:
            shutil.rmtree(made, ignore_errors=True)  # else a full disk is made fuller by each that is refused
            raise
        return StoredJob(self._folder / name)

    def get(self, job_id: str) -> StoredJob | None:
        """A job; None: there is none of that id.

        Raises:
            UnreadableJobError: it cannot be read.
        """
        if not _ID.fullmatch(job_id):
            return None
        try:
            return StoredJob(self._folder / job_id)
        except FileNotFoundError:
            return None

    def all(self) -> list[StoredJob]:
        """Every job that can be read, the oldest first."""
        return self._read(os.listdir(self._folder))

    def unfinished(self) -> list[StoredJob]:
        """Every job that has not ended, the oldest first; one that has is not read twice for it."""
        names = frozenset(os.listdir(self._folder))
        jobs = self._read(names - self._ended)
        ends = {job.id: job.ended for job in jobs}
        # Where two threads are at it, one of them forgets what the other saw, and sees it the next time.
        self._ended = (self._ended & names) | {name for name, ended in ends.items() if ended is not None}
        return [job for job in jobs if ends[job.id] is None]

    def _read(self, names: Iterable[str]) -> list[StoredJob]:
        found = map(self._readable, names)
        return sorted((job for job in found if job is not None), key=lambda job: job.handed.created)

    def _readable(self, name: str) -> StoredJob | None:
        """See `get`. A job that cannot be read is left to a person, and keeps nobody else's waiting."""
        try:
            return self.get(name)
        except UnreadableJobError as error:
            if name not in self._left_alone:
                self._left_alone.add(name)
                folder = str(self._folder / name)
                telemetry.log("job_left_alone", level="warning", job=name, folder=folder, error=str(error))
            return None

    def remove(self, job: StoredJob) -> None:
        """Nothing tells of it any more."""
        # Out of sight first: with half of its files it would be another job, that somebody takes up.
        hidden = job.folder.with_name(f".{job.id}")
        with suppress(OSError):
            job.folder.replace(hidden)
        shutil.rmtree(hidden, ignore_errors=True)

    def expire(self, keep_s: float) -> None:
        """Remove those that ended longer ago, and those that a process was adding when it was killed."""
        for job in self.all():
            if (ended := job.ended) is not None and time.time() - ended > keep_s:
                self.remove(job)
        with self.adding():  # so nobody is adding one
            for name in os.listdir(self._folder):
                if name.startswith(".") and _ID.fullmatch(name[1:]):
                    shutil.rmtree(self._folder / name, ignore_errors=True)
