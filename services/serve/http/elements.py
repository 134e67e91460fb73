"""The rows of a request, which come as objects and become columns, a few at a time.

All of them at once would take tens of times their bytes as objects: a Python string of one letter has fifty.
"""

from array import array
from collections.abc import Iterator
from itertools import compress, pairwise
from types import GenericAlias
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Raw, Struct, UnsetType

from rlad_core import schema
from rlad_core.client.parts import cut, table_bytes
from services.serve.http.counting import elements_of
from services.serve.http.json_forms import decode, invalid
from services.serve.http.problems import ProblemError
from services.serve.http.texts import refuse_over

Form = TypeVar("Form", bound=Struct)
AT_A_TIME = 1024
"""Rows that are objects at a time."""
_BYTES_AT_A_TIME = 2**18
"""Of a table's rows, which take some ten times as much as objects."""
_TOKEN_IDS = schema.PROMPTS.field("prompt_token_ids").type
_DIGITS = 10
"""More than a place has."""


class Elements(Generic[Form]):
    """The objects of a list that is bytes as yet; read anew each time they are gone through.

    Args:
        raw: the list, of a body that was valid JSON.
        form: of each; what is wrong with one is told when they are gone through.
        where: the list's place in the request, which says what they are.
        most: elements that it may have; counted before any is read.

    Raises:
        ProblemError: 422, no list.
        LimitError: it has more.
    """

    def __init__(self, raw: Raw, form: type[Form], where: str, most: int) -> None:
        self._text, self._list, self._where = memoryview(raw), GenericAlias(list, (form,)), where
        if bytes(self._text[:1]) != b"[":
            decode(raw, list[Raw], where)  # which says what it is
        self._count, ends = elements_of(self._text, AT_A_TIME)
        refuse_over("sequences", self._count, most, where)
        self._bounds = [0, *ends]

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Form]:
        """Read them.

        Raises:
            ProblemError: 422, one of them is not of the form; says which.
        """
        return (each for _, each in self.chosen(np.ones(self._count, bool)))

    def first(self, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Form]]:
        """Read those chosen, then the others, each with its place.

        Args:
            chosen: bool [elements].

        Raises:
            ProblemError: 422, one of them is not of the form; says which.
        """
        yield from self.chosen(chosen)
        yield from self.chosen(~chosen)

    def chosen(self, chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[int, Form]]:
        """Read some, each with its place; see `first`."""
        for number, (start, stop) in enumerate(pairwise(self._bounds)):
            first = number * AT_A_TIME
            its = chosen[first : first + AT_A_TIME]
            if not its.any():
                continue
            piece = b"[" + self._text[start + 1 : stop] + b"]"
            read = decode(piece, self._list, self._where, first)
            yield from compress(enumerate(read, first), its.tolist())

    def refuse_none(self) -> None:
        """See that there is one.

        Raises:
            ProblemError: 422, there is none.
        """
        if not self._count:
            raise invalid(self._where, "Expected `array` of length >= 1")


def rows_of(table: pa.Table) -> Iterator[dict[str, Any]]:
    """A table's rows, by column."""
    for start, stop in cut(table_bytes(table), AT_A_TIME, _BYTES_AT_A_TIME):
        yield from table.slice(start, stop - start).to_pylist()


class Strings:
    """A column of strings that grows row by row, and takes their bytes."""

    def __init__(self) -> None:
        self._bytes, self._offsets = bytearray(), array("i", [0])

    def add(self, text: str) -> int:
        """One more row; its bytes."""
        content = text.encode()
        self._bytes += content
        self._offsets.append(len(self._bytes))
        return len(content)

    def packed(self) -> pa.Array:
        """All rows, when there are no more to come."""
        rows = len(self._offsets) - 1
        return pa.StringArray.from_buffers(rows, pa.py_buffer(self._offsets), pa.py_buffer(self._bytes))


class TokenLists:
    """A column of token ids, int32 [tokens] a row, that grows row by row, and takes their bytes."""

    def __init__(self) -> None:
        self._bytes, self._offsets = bytearray(), array("i", [0])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(self, ids: npt.NDArray[np.int32]) -> None:
        """One more row."""
        self._bytes += ids.data
        self._offsets.append(len(self._bytes) // ids.itemsize)

    def packed(self) -> pa.Array:
        """All rows, when there are no more to come."""
        offsets, values = (pa.array(np.frombuffer(each, np.int32)) for each in (self._offsets, self._bytes))
        return pa.ListArray.from_arrays(offsets, values, type=_TOKEN_IDS)


class OwnIds:
    """The rows' ids; by default their places.

    Args:
        where: the rows' place in the request, for errors.
    """

    def __init__(self, where: str) -> None:
        self._where, self._column = where, Strings()
        self._seen = set[str]()
        self._unnamed = bytearray()

    def add(self, name: str | UnsetType) -> None:
        """The next row's.

        Raises:
            ProblemError: 422, another one has it.
        """
        if isinstance(name, UnsetType):
            self._column.add(str(len(self._unnamed)))
        else:
            if name in self._seen:
                raise self._twice(name, len(self._unnamed))
            self._seen.add(name)
            self._column.add(name)
        self._unnamed.append(isinstance(name, UnsetType))

    def packed(self) -> pa.Array:
        """All of them.

        Raises:
            ProblemError: 422, one is the place of another row, which has no name.
        """
        for name in self._seen:
            place = int(name) if len(name) < _DIGITS and name.isdecimal() else len(self._unnamed)
            if place < len(self._unnamed) and self._unnamed[place] and str(place) == name:
                # The row that says so, which may stand before or behind the one that does not.
                places = np.flatnonzero(pc.equal(self._column.packed(), name).to_numpy(zero_copy_only=False))
                raise self._twice(name, next(int(row) for row in places if row != place))
        return self._column.packed()

    def _twice(self, name: str, row: int) -> ProblemError:
        return invalid(f"{self._where}[{row}].id", f"{name[:100]!r} occurs twice")
