"""How many objects, texts or elements a JSON text holds, before anything is built from it.

Linear in time, with a few bytes of memory for each of a megabyte's: it is for texts that may be made to cost
their reader more than they cost their sender.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_PIECE = 2**16
_QUOTE, _COMMA, _BACKSLASH = b'",\\'
_DEEPER = np.zeros(256, np.int8)
"""By how many levels a byte leads into lists and objects."""
_DEEPER[list(b"[{")], _DEEPER[list(b"]}")] = 1, -1
Buffer = bytes | memoryview


def objects_in(text: bytes, enough: int) -> int:
    """The number of ``{`` outside of strings; exact below `enough`."""
    return outside_strings(text, b"{", enough)


def outside_strings(text: bytes, mark: bytes, enough: int) -> int:
    """How often a mark stands outside of strings, the quotes around them included; exact below `enough`."""
    if (upper := text.count(mark)) <= enough:
        return upper
    found = 0
    for piece in _pieces(text):
        outside = piece.quotes if mark == b'"' else (piece.bytes == ord(mark)) & ~piece.within
        found += int(outside.sum())
        if found > enough:
            break
    return found


def elements_of(text: Buffer, every: int) -> tuple[int, list[int]]:
    """How many elements a list has, and where some of them end: the places of the commas behind them, and of
    the list's bracket.

    Args:
        text: a list that is valid JSON, with nothing around it.
        every: that many elements from one that is told of to the next; the last one is told of too.

    Returns:
        Their number, and these places.
    """
    found, count, depth = list[int](), 0, 0
    end = len(memoryview(text)) - 1
    for piece in _pieces(text):
        steps = _DEEPER[piece.bytes]
        steps[piece.within] = 0
        depths = np.cumsum(steps, dtype=np.int32) + depth
        commas = np.flatnonzero((piece.bytes == _COMMA) & (depths == 1) & ~piece.within) + piece.start
        found += commas[every - 1 - count % every :: every].tolist()
        count, depth = count + len(commas), int(depths[-1])
    if not count and not bytes(text[1:end]).strip():
        return 0, []
    return count + 1, [*found, end]


class _Piece(NamedTuple):
    """Some bytes of a text: where they begin, which end or begin a string, and which are within one or begin
    it.
    """

    start: int
    bytes: npt.NDArray[np.uint8]
    quotes: npt.NDArray[np.bool_]
    within: npt.NDArray[np.bool_]


def _pieces(text: Buffer) -> Iterator[_Piece]:
    bytes_, inside, escaping = np.frombuffer(text, np.uint8), False, False
    for start in range(0, len(bytes_), _PIECE):
        piece = bytes_[start : start + _PIECE]
        escaped, escaping = _escaped(piece, escaping)
        quotes = (piece == _QUOTE) & ~escaped
        # Within a string where an odd number of quotes stands before.
        within = np.logical_xor.accumulate(quotes) ^ inside
        yield _Piece(start, piece, quotes, within)
        inside = bool(within[-1])


def _escaped(piece: npt.NDArray[np.uint8], escaping: bool) -> tuple[npt.NDArray[np.bool_], bool]:
    """Which bytes follow an odd number of backslashes; and whether the byte after the piece does.

    Args:
        escaping: whether the first byte of the piece does.
    """
    places = np.arange(len(piece), dtype=np.int32)
    slashes = piece == _BACKSLASH
    if escaping:
        slashes[0] = False  # escaped itself, so it begins no escape
    # Of each byte the last one before or at it that is no backslash: what lies between is a run of them.
    last = np.maximum.accumulate(np.where(slashes, -1, places))
    odd = (places - last) % 2 == 1
    escaped = np.empty(len(piece), bool)
    escaped[0], escaped[1:] = escaping, odd[:-1]
    return escaped, bool(odd[-1])
