"""Answers as JSON, as lines of it or as Arrow, piece by piece, so that no memory need hold one.

An answer is made of parts, each of them what was done for some rows of the request, in order. A main route
has one; a job as many as it was worked on in; an answer that is sent as it is made as many as it comes in.

NDJSON has a line for each result, and in the end ``{"results": COUNT, ...}`` with what JSON says beside them;
by the count a reader knows that nothing is missing. Arrow has the batches of each part; a stream that broke
off has no end mark.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa

from rlad_core.client.forms import ARROW, JSON
from services.serve.http.encodings import Piece, Sink

NDJSON = "application/x-ndjson"
AnswerEncoding = Literal["json", "arrow", "ndjson"]
MEDIA_TYPES: dict[AnswerEncoding, str] = {"json": JSON, "arrow": ARROW, "ndjson": NDJSON}

Part = tuple[int, pa.Table]
"""Number of a row of the request, and what was done for the rows from there on."""
Results = Callable[[pa.Table, int], Iterable[dict[str, Any]]]
"""What was done for rows, and the number of the first one -> their results as JSON has them."""
_PIECE_BYTES = 2**18
"""That JSON is gathered to: enough that each is worth a write, and few beside a part."""
_LARGE_BYTES = 2**20
_LINE = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE


class Beside:
    """What one answer says beside its results, by name and in order; by default nothing."""

    def begin(self) -> dict[str, Any]:
        """What is known when the answer begins."""
        return {}

    def add(self, done: pa.Table) -> None:
        """Look at one more part."""

    def end(self) -> dict[str, Any]:
        """What is known when all parts were looked at."""
        return {}


@dataclass(frozen=True)
class Telling:
    """How a service tells what it has done.

    Args:
        results: of a part.
        beside: called for each answer.
    """

    results: Results
    beside: Callable[[], Beside] = Beside

    def pieces(self, answer: AnswerEncoding, parts: Iterable[Part]) -> Iterator[Piece]:
        """The answer that is made of parts, which are gone through once: a part is let go before the next."""
        if answer == "json":
            yield from json_pieces(self._fields(parts))
            return
        writer = self.writer(answer)
        for part in parts:
            yield from writer.add(*part)
            del part  # before the next one is there
        yield from writer.end()

    def writer(self, answer: AnswerEncoding) -> "Lines | Batches":
        """For parts that come one after the other; not for JSON, which is one object."""
        assert answer != "json"
        return Lines(self.results, self.beside()) if answer == "ndjson" else Batches()

    def _fields(self, parts: Iterable[Part]) -> Iterator[tuple[str, Any]]:
        """The answer as one JSON object."""
        beside = self.beside()

        def of_all() -> Iterator[dict[str, Any]]:
            for start, done in parts:
                beside.add(done)
                yield from self.results(done, start)
                del done  # before the next part is there

        yield from beside.begin().items()
        yield "results", of_all()
        yield from beside.end().items()


class Lines:
    """Writes NDJSON."""

    media_type = NDJSON

    def __init__(self, results: Results, beside: Beside) -> None:
        self._results, self._beside, self._count = results, beside, 0
        self._begin = beside.begin()

    def add(self, start: int, done: pa.Table) -> Iterator[Piece]:
        """The lines of a part, in pieces."""
        self._beside.add(done)
        return gathered(self._lines(start, done))

    def end(self) -> Iterator[Piece]:
        """The last line."""
        told = {"results": self._count, **self._begin, **self._beside.end()}
        yield orjson.dumps(told, option=_LINE)

    def broken(self, problem: dict[str, Any]) -> Iterator[Piece]:
        """The last line of an answer that does not come to its end; `problem` says why (RFC 9457)."""
        yield orjson.dumps({"error": problem}, option=_LINE)

    def _lines(self, start: int, done: pa.Table) -> Iterator[bytes]:
        for each in self._results(done, start):
            self._count += 1
            yield from _written(each)
            yield b"\n"


class Batches:
    """Writes an Arrow IPC stream, which says of itself what the first part's table does."""

    media_type = ARROW

    def __init__(self) -> None:
        self._sink = Sink()
        self._writer: Any = None

    def add(self, _: int, done: pa.Table) -> Iterator[Piece]:
        """The batches of a part; a piece is the table's own memory where it can be."""
        if self._writer is None:
            self._writer = pa.ipc.new_stream(self._sink, done.schema)
        self._writer.write_table(done)
        yield from self._sink.taken()

    def end(self) -> Iterator[Piece]:
        """The end mark."""
        self._writer.close()
        yield from self._sink.taken()


def json_pieces(fields: Iterable[tuple[str, Any]]) -> Iterator[bytes]:
    """A JSON object; values may be numpy arrays, and iterators, which become lists, of which one element is
    an object at a time. The next field is asked for when the one before is written.
    """
    return gathered(_object(fields))


def _object(fields: Iterable[tuple[str, Any]]) -> Iterator[bytes]:
    before = b"{"
    for name, value in fields:
        yield before + orjson.dumps(name) + b":"
        before = b","
        if isinstance(value, Iterator):
            yield from _list(value)
        else:
            yield orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    yield b"{}" if before == b"{" else b"}"


def _list(elements: Iterator[Any]) -> Iterator[bytes]:
    before = b"["
    for each in elements:
        yield before
        before = b","
        yield from _written(each)
        del each  # the last one of a part holds that, and the next part is read now
    yield b"[]" if before == b"[" else b"]"


def _written(result: Any) -> Iterator[bytes]:
    """A result; large arrays in it place by place: while one is written whole no other thread has a turn."""
    if isinstance(result, dict) and any(map(_is_large, result.values())):
        return _object((name, iter(value) if _is_large(value) else value) for name, value in result.items())
    return iter([orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY)])


def _is_large(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.ndim > 1 and value.nbytes > _LARGE_BYTES


def gathered(small: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of which each is worth a write."""
    held: list[bytes] = []
    size = 0
    for each in small:
        held.append(each)
        size += len(each)
        if size >= _PIECE_BYTES:
            yield b"".join(held)
            held.clear()
            size = 0
    if held:
        yield b"".join(held)
