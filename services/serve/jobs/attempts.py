"""Steps of jobs that processes began and did not come to the end of, because they ended before.

A job may end whoever works on it: its engine is lost with it, or it takes more memory than there is. So each
process notes in the job's folder at which step it is, before it begins, and takes the note back when it is
not at it any more. What lies there of others is where they ended: whoever reads it has the job's lease, which
they had.

A process that is stopped takes its notes back first, since that is no fault of the job's.
"""

import threading
import uuid
from pathlib import Path

from services.base import telemetry
from services.serve.jobs.errors import DeadlyError
from services.serve.jobs.job import StoredJob

MOST = 3
"""Processes that may end at a step of a job; then it fails."""


class Attempts:
    """One process's; its methods may be called by any of its threads."""

    def __init__(self) -> None:
        self._process = uuid.uuid4().hex
        self._notes: set[Path] = set()
        self._over = False
        self._lock = threading.Lock()

    def begin(self, job: StoredJob, step: str, what: str) -> None:
        """Note that this process is at a step of a job whose lease it has.

        Args:
            step: as `StoredJob.begun` has it.
            what: the same for people.

        Raises:
            DeadlyError: as many processes have ended at it as may.
            OSError: it cannot be noted.
        """
        note = job.note(step, self._process)
        if (ended := len(job.begun(step) - {note})) >= MOST:
            raise DeadlyError(
                f"the process that worked on the job ended {ended} times, each time at {what}. There may "
                "have been too little memory for it, or the engine was lost; the service's log says more. "
                "Hand it in again as smaller jobs, or with fewer details, and leave out the rows that end a "
                "process even then"
            )
        with self._lock:
            if not self._over:
                self._notes.add(note)
                job.begin(note)

    def end(self, job: StoredJob, step: str) -> None:
        """This process is not at it any more."""
        with self._lock:
            self._take_back(job.note(step, self._process))

    def hand_back(self) -> None:
        """This process ends: that it was at something is no fault of that, nor of what it begins yet."""
        with self._lock:
            self._over = True
            for note in list(self._notes):
                self._take_back(note)

    def _take_back(self, note: Path) -> None:
        self._notes.discard(note)
        try:
            note.unlink(missing_ok=True)
        except OSError as error:  # one too many is counted then
            telemetry.log("job_not_written", level="error", job=note.parent.name, error=str(error))
