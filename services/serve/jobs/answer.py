"""A job's answer, put together part by part: memory holds one of them, not the answer."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from services.serve.http.answers import MEDIA_TYPES, Part
from services.serve.http.encodings import Piece, packing
from services.serve.jobs.errors import LeftError
from services.serve.jobs.job import StoredJob
from services.serve.jobs.room import Room
from services.serve.jobs.work import Work


def put_together(
    job: StoredJob,
    work: Work,
    parts: Sequence[tuple[int, int]],
    room: Room,
    is_left: Callable[[], bool],
) -> None:
    """Write the answer of a job whose parts are all done, as the service's main route would have told it.

    Args:
        parts: first row and end of each.
        is_left: whether to stop where it is; asked again and again, since a large one takes minutes.

    Raises:
        LeftError: it was stopped.
        NoRoomError, LimitError: there is no room for it now, or never.
        UnreadableJobError: a part cannot be read.
        OSError: it cannot be written.
    """
    wanted = job.handed.answer
    pieces, headers = packing(work.telling.pieces(wanted, _of(job, parts)), job.handed.coding)
    told = {"content-type": MEDIA_TYPES[wanted]} | {name.lower(): each for name, each in headers.items()}
    room.finish(job, _until_left(pieces, is_left), told)


def _of(job: StoredJob, parts: Sequence[tuple[int, int]]) -> Iterator[Part]:
    for number, (start, _) in enumerate(parts):
        yield start, job.part(number)


def _until_left(pieces: Iterable[Piece], is_left: Callable[[], bool]) -> Iterator[Piece]:
    for piece in pieces:
        if is_left():
            raise LeftError("it is cancelled, or the service ends")
        yield piece
