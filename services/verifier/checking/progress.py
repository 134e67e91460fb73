"""Which check a worker is at, in memory that service and worker share.

Telling it by messages would cost more than most checks take.
"""

import mmap
import os
import struct
import time
from dataclasses import dataclass

_BEGAN = struct.Struct("d")
_PLACE = struct.Struct("II")
_PLACE_AT = 8
_BYTES = 16


def make() -> int:
    """A descriptor of such memory."""
    descriptor = os.memfd_create("progress")
    os.truncate(descriptor, _BYTES)
    return descriptor


@dataclass(frozen=True)
class At:
    """A check: the worker's chunk, counted from 1, the place in it, and when it began (`time.monotonic`)."""

    chunk: int
    place: int
    began: float


def read(descriptor: int) -> At:
    """What the worker wrote last."""
    written = os.pread(descriptor, _BYTES, 0)
    return At(*_PLACE.unpack_from(written, _PLACE_AT), *_BEGAN.unpack_from(written))


class Progress:
    """The worker's side."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, _BYTES)
        self._chunk = 0

    def next_chunk(self) -> None:
        """What comes is of another chunk."""
        self._chunk += 1

    def begin(self, place: int) -> float:
        """A check begins; when that is."""
        began = time.monotonic()
        # In this order: whoever reads between the two takes the check before for one that has just begun.
        # Each whole: `pack_into` writes zeros first, and what began at 0 has run since the machine does.
        self._memory[:_PLACE_AT] = _BEGAN.pack(began)
        self._memory[_PLACE_AT:] = _PLACE.pack(self._chunk, place)
        return began
