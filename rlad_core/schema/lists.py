"""Whether the values per token of a table are as many, and of the kind, that their declarations say.

Everything is checked on flat arrays: the cost is a few passes over the tokens, with no Python loop over rows.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core.schema.columns import flatten, lengths
from rlad_core.schema.declarations import token_value
from rlad_core.schema.errors import SchemaError
from rlad_core.schema.labels import name_of
from rlad_core.schema.token_values import TOKEN_ID, Per, Rule, TokenValue, below


def check_numbers(column: pa.ChunkedArray, name: str, schema: str, vocab_size: int | None) -> None:
    """No row is empty, no value inside a list null, and each keeps its declaration's rule.

    A chunk at a time: none is copied, and what is computed of a small one stays in the processor's cache.

    Args:
        column: a column of lists without null rows.
        name: of the column.
        schema: in whose table it is, for the error.
        vocab_size: see `rlad_core.schema.validate`.
    """
    rule = token_value(name, schema=schema).rule
    if rule is TOKEN_ID and vocab_size is not None:
        rule = below(vocab_size)
    first = 0
    for chunk in column.chunks:
        _check_chunk(chunk, first, name, schema, rule)
        first += len(chunk)


def _check_chunk(column: pa.Array, first: int, name: str, schema: str, rule: Rule) -> None:
    """`check_numbers` of the rows from `first` on."""
    items = column.flatten()
    if items.null_count:
        missing = items.is_null().to_numpy(zero_copy_only=False)
        offsets = column.offsets.to_numpy()
        row, position = locate(int(np.argmax(missing)), offsets - offsets[0])
        raise SchemaError(f"token {position} is null", schema=schema, column=name, row=first + row)
    values, offsets = flatten(column)
    empty = np.flatnonzero(np.diff(offsets) == 0)
    if empty.size:
        raise SchemaError(
            "is empty, wanted at least one token", schema=schema, column=name, row=first + int(empty[0])
        )
    kept = rule.holds(values)
    if not kept.all():
        index = int(np.argmin(kept))
        row, position = locate(index, offsets)
        raise SchemaError(
            f"token {position} is {values[index]}; {rule.says}", schema=schema, column=name, row=first + row
        )


def check_aligned(table: pa.Table, schema: pa.Schema) -> None:
    """The lists of one row are as long as its prompt, or its response, or k times its response, has tokens.

    How many there are is said by the first required column of the schema that has one value per token: the
    ids where there are any, else the teacher's log-probs. Columns that are null throughout are left out; the
    rest has passed `check_numbers`.
    """
    name = name_of(schema)
    present: dict[Per, list[_Lists]] = {}
    required: list[str] = []
    for field in schema:
        column = table.column(field.name)
        if pa.types.is_list(field.type) and not column.null_count:
            value = token_value(field.name, schema=name)
            present.setdefault(value.per, []).append(_Lists(value, lengths(column)))
            if value.presence == "required" and not field.nullable:
                required.append(field.name)
    _check_one_each(present.get("prompt token", []), required, name)
    counted = _check_one_each(present.get("response token", []), required, name)
    if counted is not None and counted.counts.size:
        for columns in present.values():
            if columns[0].value.has_several:
                _check_k_each(columns, counted, name)


class _Lists(NamedTuple):
    """A column's declaration, and how many values each of its rows has, int64 [rows]."""

    value: TokenValue
    counts: npt.NDArray[np.int64]


def _check_one_each(columns: list[_Lists], required: list[str], schema: str) -> _Lists | None:
    """The column that says how many tokens there are; all others of one value per token agree with it."""
    counted = next((each for each in columns if each.value.name in required), None)
    if counted is None:
        return None
    for value, found in columns:
        if (wrong := np.flatnonzero(found != counted.counts)).size:
            row = int(wrong[0])
            raise SchemaError(
                f"{_of_tokens(found, counted, row)}; wanted exactly one per token",
                schema=schema,
                column=value.name,
                row=row,
            )
    return counted


def _check_k_each(columns: list[_Lists], counted: _Lists, schema: str) -> None:
    """All columns have k values per token, with the k of the first row of the first."""
    first = columns[0]
    letter = first.value.per[0]
    k, rest = divmod(int(first.counts[0]), int(counted.counts[0]))
    for value, found in columns:
        if (wrong := np.flatnonzero(found != k * counted.counts)).size or rest:
            row = 0 if rest else int(wrong[0])
            known = "" if rest else f", and {first.value.name!r} begins with {letter} = {k}"
            raise SchemaError(
                f"{_of_tokens(found, counted, row)}; wanted {letter} per token, with one {letter} for all "
                f"rows and columns{known}",
                schema=schema,
                column=value.name,
                row=row,
            )


def _of_tokens(found: npt.NDArray[np.int64], counted: _Lists, row: int) -> str:
    kind = counted.value.per
    return f"{found[row]} values for {counted.counts[row]} {kind}s, counted by {counted.value.name!r}"


def locate(index: int, offsets: npt.NDArray[np.signedinteger]) -> tuple[int, int]:
    """Row and position inside that row of the flat value `index`."""
    row = int(np.searchsorted(offsets, index, side="right")) - 1
    return row, index - int(offsets[row])
