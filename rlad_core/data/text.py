"""From a file's bytes to its text: compression, byte order marks, encodings. Its first bytes say which."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from rlad_core.data.faults import DataError

_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_POINTER = b"version https://git-lfs.github.com/"
# The longer ones first: UTF-32's mark begins like that of UTF-16.
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
BROKEN = (EOFError, OSError, UnicodeError, zlib.error)
"""What reading a stream of `decoded` may raise."""


@dataclass(frozen=True)
class Encoding:
    """How a file's text is encoded.

    Attributes:
        name: None: UTF-8, or what the file's first bytes say.
        setting: what a person writes before its name, where it was asked for; for advice.
    """

    name: str | None = None
    setting: str = "encoding: "

    @property
    def advice(self) -> str:
        """What to write where it is another one."""
        return f"If the file has another encoding, name it: {self.setting}latin-1"


@contextmanager
def decompressed(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, out of gzip or Zstandard where they are in it.

    Raises:
        DataError: it is a Git LFS pointer, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_POINTER))
            file.seek(0)
            if head == _POINTER:
                raise DataError(
                    f"{path} is a pointer of Git LFS in place of the data. Fetch them: git lfs pull"
                )
            if head.startswith(_GZIP):
                with gzip.open(file) as unpacked:
                    yield cast(BinaryIO, unpacked)
            elif head.startswith(_ZSTD):
                import pyarrow as pa  # takes a third of the time in which `rlad plan` answers

                with pa.CompressedInputStream(pa.PythonFile(file), "zstd") as unpacked:
                    yield cast(BinaryIO, io.BufferedReader(unpacked))
            else:
                yield file
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def decoded(path: Path, encoding: Encoding, *, newline: str | None = None) -> Iterator[TextIO]:
    """The file's text as a stream; bytes that are none are lone surrogates in it, see `fault_of`.

    Args:
        newline: as of `open`.

    Raises:
        DataError: as `decompressed`.
    """
    with decompressed(path) as binary:
        buffered = binary if isinstance(binary, io.BufferedReader) else io.BufferedReader(binary)  # type: ignore[type-var]
        try:
            codec = _codec(encoding.name, buffered.peek(4)[:4])
        except BROKEN as error:
            raise DataError(f"{path}, line 1: {said(error, encoding)}") from error
        # UTF-16 and UTF-32 hold half characters as such; others, bytes that mean nothing.
        errors = "surrogatepass" if codec.startswith(("utf-16", "utf-32")) else "surrogateescape"
        yield io.TextIOWrapper(buffered, codec, errors, newline)


def fault_of(text: str, encoding: Encoding | None = None) -> str | None:
    """What is wrong with a text of `decoded`; None: nothing.

    Args:
        encoding: that it was read in; None: it is of no file.
    """
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        odd = ord(text[error.start])
        if 0xDC80 <= odd <= 0xDCFF:
            advice = f". {encoding.advice}" if encoding else ""
            return f"is no UTF-8: byte 0x{odd - 0xDC00:02x} at character {error.start + 1}{advice}"
        return f"holds half a character (a lone surrogate) at character {error.start + 1}"
    return None


def said(error: Exception, encoding: Encoding) -> str:
    """Why reading ended, of one of `BROKEN`."""
    if isinstance(error, UnicodeError):
        reason = getattr(error, "reason", error)
        return f"the text is no {getattr(error, 'encoding', 'text')}: {reason}. {encoding.advice}"
    if isinstance(error, EOFError):
        return "the file ends in the middle: it was not written or copied to its end"
    return f"the file is broken: {error}"


def _codec(named: str | None, head: bytes) -> str:
    """The one that is named, or what the first bytes say; a mark is no character of the text either way."""
    marked = next((encoding for mark, encoding in _MARKS if head.startswith(mark)), None)
    if named is None:
        return marked or _unmarked(head)
    codec = codecs.lookup(named).name
    return marked if marked and codec.startswith(marked.removesuffix("-sig")) else codec


def _unmarked(head: bytes) -> str:
    # Without a mark: JSON and CSV begin with characters of ASCII (RFC 4627, section 3).
    nulls = [byte == 0 for byte in head]
    if nulls == [False, True, False, True]:
        return "utf-16-le"
    if nulls == [True, False, True, False]:
        return "utf-16-be"
    return "utf-8"
