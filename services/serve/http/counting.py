"""How many objects or texts a JSON text holds, before anything is built from it."""

import numpy as np
import numpy.typing as npt

_PIECE = 2**20
_QUOTE, _BACKSLASH = 34, 92


def objects_in(text: bytes, enough: int) -> int:
    """The number of ``{`` outside of strings; exact below `enough`."""
    return outside_strings(text, b"{", enough)


def outside_strings(text: bytes, mark: bytes, enough: int) -> int:
    """How often a mark stands outside of strings, the quotes around them included; exact below `enough`.

    Linear in time, with a few bytes of memory for each of a megabyte's: it is for texts that may be made to
    cost their reader more than they cost their sender.
    """
    if (upper := text.count(mark)) <= enough:
        return upper
    bytes_, found, inside, escaping = np.frombuffer(text, np.uint8), 0, False, False
    for start in range(0, len(bytes_), _PIECE):
        piece = bytes_[start : start + _PIECE]
        escaped, escaping = _escaped(piece, escaping)
        quotes = (piece == _QUOTE) & ~escaped
        # Within a string where an odd number of quotes stands before.
        within = np.logical_xor.accumulate(quotes) ^ inside
        outside = quotes if mark == b'"' else (piece == ord(mark)) & ~within
        found += int(outside.sum())
        inside = bool(within[-1])
        if found > enough:
            break
    return found


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
