"""A job's answer on its way: whole, or the part from where a download broke off (RFC 9110, 13 and 14).

An answer is written once. So the job's id and the coding that it is sent in say which bytes it is, and are
its strong ``ETag``. Parts are those of the file as it lies there; what is unpacked for who does not take its
compression has none, since nobody knows how long it is.
"""

import re
from pathlib import Path

import pyarrow as pa
from fastapi import Request, Response
from fastapi.responses import StreamingResponse

from services.serve.http.bodies import accepts
from services.serve.http.encodings import pieces
from services.serve.http.problems import told
from services.serve.jobs.errors import NoSuchPartError, OtherAnswerError, UnreadableJobError
from services.serve.jobs.job import StoredJob

_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.IGNORECASE)
"""One range. Several, and what else ``Range`` may hold, are answered with the whole (14.2)."""


def sent(job: StoredJob, request: Request) -> Response:
    """The answer of a job that is done, as a request asks for it. Its file is opened now: it may be removed
    while it is sent.

    Raises:
        FileNotFoundError: it is gone already.
        UnreadableJobError: it is not as long as what was written.
    """
    file, headers = job.answer
    coding = headers.get("content-encoding", "identity")
    if is_packed := coding != "identity" and not accepts(request, coding):
        # Who fetches it need not be the program that handed it in, and may not be able to unpack it.
        del headers["content-encoding"]
    tag = f'"{job.id}.{"identity" if is_packed else coding}"'
    headers |= {"etag": tag, "accept-ranges": "none" if is_packed else "bytes"}
    size = _size(file, headers.pop("content-length", None), job.id)
    if not _names(request.headers.get("if-match", "*"), tag):
        return told(OtherAnswerError(f"the answer of job {job.id} is {tag}"), {"ETag": tag})
    if _names(request.headers.get("if-none-match", "").replace("W/", ""), tag):
        kept = {name: value for name, value in headers.items() if name in ("etag", "vary")}
        return Response(status_code=304, headers=kept)
    if is_packed:
        return _streamed(request, pa.input_stream(str(file), compression=coding), 200, headers)
    start, stop, status = 0, size, 200
    if (asked := _asked(request, tag)) is not None:
        first, last = asked
        start = max(0, size - last) if first is None else first
        stop = size if first is None else min(size, last + 1)
        if start >= stop:
            error = NoSuchPartError(f"the answer of job {job.id} has {size} bytes")
            return told(error, {"Content-Range": f"bytes */{size}"})
        status, headers["content-range"] = 206, f"bytes {start}-{stop - 1}/{size}"
    headers["content-length"] = str(stop - start)
    opened = pa.OSFile(str(file))
    opened.seek(start)
    return _streamed(request, opened, status, headers, stop - start)


def _streamed(
    request: Request, opened: pa.NativeFile, status: int, headers: dict[str, str], size: int | None = None
) -> Response:
    most = 0 if request.scope.get("is_head") else size
    return StreamingResponse(pieces(opened, most), status, headers)


def _size(file: Path, written: str | None, job_id: str) -> int:
    """Bytes of the file; `written` had so many, None: nobody has noted it."""
    size = file.stat().st_size
    if written not in (None, str(size)):
        raise UnreadableJobError(f"the answer of job {job_id} has {size} bytes, and {written} were written")
    return size


def _names(tags: str, tag: str) -> bool:
    """Whether a list of entity tags has one, or stands for all."""
    return tags.strip() == "*" or tag in (each.strip() for each in tags.split(","))


def _asked(request: Request, tag: str) -> tuple[int | None, int] | None:
    """First and last byte that are asked for, the last at most 18 digits; first None: the last so many.

    Returns:
        None where all of it is: there is no ``Range``, or none that is read, or it is of another answer.
    """
    found = _RANGE.fullmatch(request.headers.get("range", ""))
    if found is None or request.scope.get("is_head") or request.headers.get("if-range", tag) != tag:
        return None
    first, last = found.groups()
    if not first:
        return (None, int(last)) if last else None
    start, end = int(first), int(last or "9" * 18)
    return (start, end) if start <= end else None
