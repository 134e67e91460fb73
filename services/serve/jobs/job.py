"""A job as files. What it is, is which of them are there, so no two processes can disagree about it.

    jobs_dir/teacher/JOB/
        job.json       who handed it in, when, and the request's headers; never changed
        request        the body
        lease          locked by the process that works on the job
        plan           how many parts it has
        000003.arrow   what was done for its fourth part
        000003.PROCESS.begun   that process is at the fourth part, or ended at it; see `attempts`
        answer         the answer's body, and its headers in answer.json
        failed.json    why there is none
        cancelled      nobody wants it any more
        .NAME.NUMBER   one of these while it is written

A lease is the lock of a file (flock): the system takes it from a process that ends, however it ends, so a job
is taken up again at once and never by two. Replicas on several machines share jobs where their file system
has such locks, as NFS does since version 4.
"""

import json
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
from pydantic import TypeAdapter, ValidationError

from rlad_core import schema
from services.serve.http.answers import AnswerEncoding, Batches
from services.serve.http.encodings import Piece
from services.serve.jobs.errors import UnreadableJobError
from services.serve.jobs.files import is_being_written, left_over, write_pieces
from services.serve.jobs.lease import is_free, leased

Told = TypeVar("Told")
Status = Literal["queued", "running", "done", "failed", "cancelled"]
_CANCELLED = "cancelled"
_ENDS = (_CANCELLED, "answer.json", "failed.json")
_ANSWER = "answer"
_BEGUN = ".begun"
# Also what a process leaves that is killed while it writes them.
_OF_WORK = ("request", "*.arrow", f"*{_BEGUN}", left_over("*.arrow"), left_over(_ANSWER))


@dataclass(frozen=True)
class Handed:
    """What was handed in beside the body. What else a later version keeps with it is not read.

    Args:
        owner: the caller, whom alone the job is told to.
        created: seconds since 1970.
        encoding, answer, coding: of `services.serve.http.bodies.Body`.
        query: of the URL.
    """

    owner: str
    created: float
    encoding: Literal["json", "arrow"]
    answer: AnswerEncoding
    coding: str
    query: dict[str, list[str]]


_HANDED = TypeAdapter(Handed)
_PLAN = TypeAdapter(int)
_HEADERS = TypeAdapter(dict[str, str])
_PROBLEM = TypeAdapter(dict[str, Any])


class StoredJob:
    """One job's folder.

    Raises:
        FileNotFoundError: there is none.
        UnreadableJobError: it is there, and cannot be read. So may all that is asked of the job.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name
        self.handed = self._told("job.json", _HANDED)

    @property
    def status(self) -> Status:
        """Where it is."""
        if self.is_cancelled:
            return "cancelled"
        if self._has("answer.json"):
            return "done"
        if self._has("failed.json"):
            return "failed"
        return "queued" if is_free(self._lease) else "running"

    @property
    def is_cancelled(self) -> bool:
        """Nobody wants it any more."""
        return self._has(_CANCELLED)

    @property
    def is_unwanted(self) -> bool:
        """It is cancelled, or was and has made room for another since."""
        return self.is_cancelled or not self.folder.exists()

    @property
    def ended(self) -> float | None:
        """When, in seconds since 1970; None: it has not."""
        for name in _ENDS:
            try:
                return (self.folder / name).stat().st_mtime
            except FileNotFoundError:
                continue
        return None

    @property
    def progress(self) -> tuple[int, int | None]:
        """Parts that are done, and all of them; None: not known yet."""
        try:
            parts = self._told("plan", _PLAN)
        except FileNotFoundError:
            return 0, None
        return sum(1 for _ in self.folder.glob("*.arrow")), parts

    def lease(self) -> AbstractContextManager[bool]:
        """Try to be the one who works on it, for as long as the block; says whether that is so."""
        return leased(self._lease)

    def note(self, step: str, process: str) -> Path:
        """File that says that a process has begun a step, and not come to its end."""
        return self.folder / f"{step}.{process}{_BEGUN}"

    def begin(self, note: Path) -> None:
        """A step is begun, of which `note` is to be there when the process, or the machine, ends at it."""
        write_pieces(note, [])

    def begun(self, step: str) -> set[Path]:
        """Notes of a step, a part's number or another name; those of all steps for "*"."""
        return set(self.folder.glob(f"{step}.*{_BEGUN}"))

    def request(self) -> bytes:
        """The body that was handed in."""
        return _content(self.folder / "request")

    def plan(self, parts: int) -> None:
        """Say how many parts it has."""
        write_pieces(self.folder / "plan", [str(parts).encode()])

    def part_schema(self, number: int) -> pa.Schema | None:
        """Of what was done for a part, which is not read for it; None: nothing yet, or nothing that can be
        read, and it is to be done again.
        """
        try:
            with pa.OSFile(str(self._part(number))) as file, pa.ipc.open_stream(file) as part:
                return part.schema
        except (OSError, pa.ArrowException):
            return None

    def part(self, number: int) -> pa.Table:
        """What was done for a part.

        Raises:
            FileNotFoundError: nothing yet, or somebody has removed it.
        """
        # Not mapped: where the disk fails, or a job in a shared folder is cancelled by another machine, a
        # map ends the process (SIGBUS) and takes the engine with it.
        file = self._part(number)
        try:
            return schema.from_ipc(_content(file))
        except schema.SchemaError as error:
            raise _unreadable(file, error) from error

    def keep_part(self, number: int, done: pa.Table) -> None:
        """A part is done, whoever ended at it before."""
        batches = Batches()
        write_pieces(self._part(number), chain(batches.add(0, done), batches.end()))
        self._clear(f"{part_step(number)}.*{_BEGUN}")

    def finish(self, body: Iterable[Piece], headers: dict[str, str]) -> None:
        """There is an answer, when all of its pieces have come."""
        self._clear(left_over(_ANSWER))
        write_pieces(file := self.folder / _ANSWER, body)
        told = {**headers, "content-length": str(file.stat().st_size)}
        write_pieces(self.folder / "answer.json", [json.dumps(told).encode()])
        self._clear(*_OF_WORK)

    def fail(self, problem: dict[str, Any]) -> None:
        """There will be no answer; `problem` says why (RFC 9457)."""
        write_pieces(self.folder / "failed.json", [json.dumps(problem).encode()])
        self._clear(*_OF_WORK)

    def cancel(self) -> None:
        """Nobody wants it; what it holds goes. Who works on it sees that, and stops.

        When it ended stays what it was, so that asking again does not keep it for longer.
        """
        if not self.is_cancelled:
            ended = self.ended
            write_pieces(cancelled := self.folder / _CANCELLED, [])
            if ended is not None:
                os.utime(cancelled, (ended, ended))
        self._clear(*_OF_WORK, _ANSWER, "answer.json", "failed.json")

    def clear_if_cancelled(self) -> None:
        """Remove what was written for it since it was cancelled."""
        if self.is_cancelled:
            self.cancel()

    @property
    def answer(self) -> tuple[Path, dict[str, str]]:
        """File with the answer's body, and its headers."""
        return self.folder / _ANSWER, self._told("answer.json", _HEADERS)

    @property
    def problem(self) -> dict[str, Any] | None:
        """Why there is no answer."""
        try:
            return self._told("failed.json", _PROBLEM)
        except FileNotFoundError:
            return None

    @property
    def bytes(self) -> int:
        """That its files take, or an answer that is being written if that is more: when that is there, the
        others go. Those that go meanwhile, or all of them, take none.
        """
        taken = being_written = 0
        with suppress(FileNotFoundError):
            for file in self.folder.iterdir():
                with suppress(FileNotFoundError):
                    size = file.stat().st_size
                    if is_being_written(file, _ANSWER):
                        being_written += size
                    else:
                        taken += size
        return max(taken, being_written)

    @property
    def _lease(self) -> Path:
        return self.folder / "lease"

    def _told(self, name: str, form: TypeAdapter[Told]) -> Told:
        file = self.folder / name
        try:
            return form.validate_json(_content(file))
        except ValidationError as error:
            raise _unreadable(file, _first_fault(error)) from error

    def _has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def _part(self, number: int) -> Path:
        return self.folder / f"{part_step(number)}.arrow"

    def _clear(self, *patterns: str) -> None:
        for pattern in patterns:
            for file in self.folder.glob(pattern):
                file.unlink(missing_ok=True)


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unreadable(file, error.strerror or error) from error


def _unreadable(file: Path, why: object) -> UnreadableJobError:
    return UnreadableJobError(f"{file.name} of job {file.parent.name} cannot be read: {why}")


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return ": ".join([*map(str, fault["loc"]), fault["msg"]])


def part_step(number: int) -> str:
    """Of a part, as its files are named and the step is that one is at who works on it."""
    return f"{number:06d}"
