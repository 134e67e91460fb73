"""A policy version as one safetensors image in memory, one for all processes of a node.

The image is an anonymous file (memfd): other processes of the same node map it through /proc, and it is gone
with the process that made it, whatever ends that. So rank 0 writes each tensor straight to its place, and
every engine worker of the node reads from there, without a copy of its own.
"""

from __future__ import annotations

import mmap
import os
from contextlib import nullcontext, suppress
from typing import Self

import blake3

from services.base.losses import LossError

PART_BYTES = 64 * 2**20
"""What travels at a time between nodes."""


class LostImageError(LossError):
    """The process that held an image has ended, and the image with it."""

    @classmethod
    def at(cls, path: str) -> Self:
        """Of the image that was there."""
        return cls(f"the policy version at {path} was lost with the process that held it; publish it again")


class Image:
    """An image's memory, held by the process that made it.

    Args:
        name: for /proc.
        num_bytes: its size.

    Raises:
        MemoryError: the node has less left.
    """

    def __init__(self, name: str, num_bytes: int) -> None:
        if (free := _free_bytes()) < num_bytes:
            raise MemoryError(
                f"{name} takes {num_bytes / 2**30:.2f} GiB, and this node has {free / 2**30:.2f} GiB left"
            )
        self._descriptor = os.memfd_create(name)
        os.truncate(self._descriptor, num_bytes)
        self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        """Where every process of this node and user opens it."""

    def close(self) -> None:
        """Give the memory back, once nobody maps it any more."""
        os.close(self._descriptor)


class OpenImage:
    """An image as this process sees it, for a while.

    Args:
        path: of `Image`.
        writable: else it is read.

    Raises:
        LostImageError: it is gone.
    """

    def __init__(self, path: str, *, writable: bool = False) -> None:
        try:
            with open(path, "r+b" if writable else "rb") as file:
                access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
                self._map = mmap.mmap(file.fileno(), 0, access=access)
        except FileNotFoundError as error:
            raise LostImageError.at(path) from error
        self.bytes = memoryview(self._map)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object = None, *_: object) -> None:
        self.bytes.release()
        # What failed may still hold a part of it, and is told rather than that.
        with suppress(BufferError) if kind is not None else nullcontext():
            self._map.close()


def check(path: str, version: int, checksum: str) -> None:
    """Refuse an image that is not the one that was published.

    Raises:
        ValueError: it is another one.
        LostImageError: it is gone.
    """
    with OpenImage(path) as image:
        found = blake3.blake3(image.bytes).hexdigest()
    if found != checksum:
        raise ValueError(f"policy version {version} arrived with checksum {found}, published was {checksum}")


def _free_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as file:
        lines = dict(line.split(":", 1) for line in file)
    return int(lines["MemAvailable"].split()[0]) * 1024
