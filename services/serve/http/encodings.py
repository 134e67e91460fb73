"""gzip and zstd: bodies that come compressed, answers for callers who take them so (RFC 9110, 8.4, 12.5).

A few kilobytes can unpack to more than a machine's memory, so what comes is unpacked piece by piece and no
further than the limit that holds for a body as it is.
"""

import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Protocol

import pyarrow as pa

from rlad_core.client.errors import LimitError
from services.serve.http.problems import ProblemError

CODINGS = ("gzip", "zstd")
Piece = bytes | memoryview
"""Of a body."""
_PIECE = 2**20
_WORTH_BYTES = 1024
_LONGEST_HEADER = 1000
_NAMES = {"x-gzip": "gzip", "gzip": "gzip", "zstd": "zstd", "identity": "identity", "": "identity"}


def unpacked(content: bytes, coding: str, max_bytes: int) -> Iterator[bytes]:
    """A body without its compression, piece by piece, so that each is counted before the next is there.

    Args:
        coding: the header ``Content-Encoding``.
        max_bytes: that it may have when it is unpacked.

    Raises:
        ProblemError: 415, a coding that is none of ours; 400, the bytes are not of that coding.
        LimitError: it is larger than `max_bytes`.
    """
    name = known(coding)
    if name == "identity":
        yield content
        return
    size = 0
    try:
        for part in pieces(pa.CompressedInputStream(pa.BufferReader(content), name)):
            size += len(part)
            if size > max_bytes:
                raise LimitError(
                    "body", f"the body has more than {max_bytes} bytes unpacked, the most that is taken"
                )
            yield part
    except (OSError, pa.ArrowException) as error:
        raise ProblemError(
            400, "The body cannot be read", f"it is not whole or no {name}: {str(error).splitlines()[0]}"
        ) from error


def pieces(stream: pa.NativeFile, most: int | None = None) -> Iterator[bytes]:
    """What is left of a stream, or at most so many bytes; it is closed then."""
    with stream:
        while part := stream.read(_PIECE if most is None else min(_PIECE, most)):
            yield part
            most = most and most - len(part)


def known(coding: str) -> str:
    """A ``Content-Encoding`` by the name that we have for it.

    Raises:
        ProblemError: 415, it is unknown, or there are several.
    """
    if (name := _NAMES.get(coding.strip().lower())) is None:
        raise ProblemError(
            415, "Unsupported content encoding", f"{coding[:100]!r}: send {', '.join(CODINGS)} or none"
        )
    return name


def wanted(accept_encoding: str, codings: Sequence[str] = CODINGS) -> str:
    """Which of these codings of ours ``Accept-Encoding`` weighs most, or identity."""
    offered = {_NAMES.get(name, name): weight for name, weight in weighed(accept_encoding).items()}
    # The last of equals: zstd before gzip, and either before none.
    usable = [name for name in ("identity", *codings) if offered.get(name, 0.0) > 0]
    return max(reversed(usable), key=offered.__getitem__, default="identity")


def weighed(accepted: str) -> dict[str, float]:
    """What a header such as ``Accept`` names, in lower case, and how much each weighs (RFC 9110, 12.4.2)."""
    found: dict[str, float] = {}
    for item in accepted.lower()[:_LONGEST_HEADER].split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = next((p.removeprefix("q=") for p in parameters if p.startswith("q=")), "1")
        with suppress(ValueError):
            found[name] = float(weight)
    return found


def packed(content: bytes, coding: str) -> tuple[bytes, dict[str, str]]:
    """An answer in a coding of `wanted`, with the headers that say so. Small ones stay as they are."""
    coding, headers = _worth(len(content), coding)
    if coding == "identity":
        return content, headers
    if coding == "gzip":
        return b"".join(_whole([content], packer(coding))), headers
    return pa.Codec("zstd", 1).compress(content, asbytes=True), headers


def packing(body: Iterable[Piece], coding: str) -> tuple[Iterator[Piece], dict[str, str]]:
    """The same of an answer that comes in pieces. They are read from as far as it takes to see whether it is
    a small one, and else when the packed ones are.
    """
    coming = iter(body)
    head = bytearray()
    while len(head) < _WORTH_BYTES and (piece := next(coming, None)) is not None:
        head += piece
    coding, headers = _worth(len(head), coding)
    whole = chain([bytes(head)], coming)
    return whole if coding == "identity" else _whole(whole, packer(coding)), headers


def told_of(coding: str) -> dict[str, str]:
    """The headers of an answer in a coding, or in none."""
    headers = {"Vary": "Accept, Accept-Encoding"}
    return headers if coding == "identity" else {**headers, "Content-Encoding": coding}


def _worth(size: int, coding: str) -> tuple[str, dict[str, str]]:
    """The coding for an answer of so many bytes or more, and its headers."""
    coding = coding if size >= _WORTH_BYTES else "identity"
    return coding, told_of(coding)


class Packer(Protocol):
    """Packs what comes piece by piece."""

    def add(self, piece: Piece) -> Iterator[Piece]:
        """One more; what is packed by now."""
        ...

    def flush(self) -> Iterator[Piece]:
        """The rest of what was added, so that it can be unpacked before more comes."""
        ...

    def end(self) -> Iterator[Piece]:
        """The rest, and the end."""
        ...


def packer(coding: str) -> Packer:
    """For an answer in a coding of `wanted`."""
    kinds: dict[str, type[Packer]] = {"gzip": _Gzip, "zstd": _Zstd, "identity": _AsItIs}
    return kinds[coding]()


def _whole(pieces: Iterable[Piece], into: Packer) -> Iterator[Piece]:
    for piece in cut_up(pieces):
        yield from into.add(piece)
    yield from into.end()


class _Gzip:
    def __init__(self) -> None:
        self._compressor = zlib.compressobj(1, wbits=31)

    def add(self, piece: Piece) -> Iterator[Piece]:
        yield self._compressor.compress(piece)

    def flush(self) -> Iterator[Piece]:
        yield self._compressor.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> Iterator[Piece]:
        yield self._compressor.flush()


class _Zstd:
    def __init__(self) -> None:
        self._sink = Sink()
        # At Arrow's level, which is 1.
        self._stream = pa.CompressedOutputStream(pa.PythonFile(self._sink, "w"), "zstd")

    def add(self, piece: Piece) -> Iterator[Piece]:
        self._stream.write(piece)
        yield from self._sink.taken()

    def flush(self) -> Iterator[Piece]:
        self._stream.flush()
        yield from self._sink.taken()

    def end(self) -> Iterator[Piece]:
        self._stream.close()
        yield from self._sink.taken()


class _AsItIs:
    def add(self, piece: Piece) -> Iterator[Piece]:
        yield piece

    def flush(self) -> Iterator[Piece]:
        yield from ()

    def end(self) -> Iterator[Piece]:
        yield from ()


def cut_up(pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Pieces none of which is large: what one is packed or copied to lies in memory whole."""
    for piece in pieces:
        view = memoryview(piece)
        yield from (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


class Sink:
    """A file for Arrow to write to, which keeps the buffers that it is given until they are taken."""

    closed = False

    def __init__(self) -> None:
        self._written: list[Any] = []

    def write(self, buffer: Any) -> int:
        """One more; its bytes."""
        self._written.append(buffer)
        return len(buffer)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """What was written can be taken yet."""

    def taken(self) -> Iterator[memoryview]:
        """What was written since the last time."""
        written, self._written = self._written, []
        return map(memoryview, written)
