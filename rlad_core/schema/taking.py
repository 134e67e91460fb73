"""Rows of a table in a wanted order, with token columns copied row by row rather than value by value."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as pt

from rlad_core.schema.columns import flatten, unflatten


def take_rows(table: pa.Table, positions: npt.ArrayLike) -> pa.Table:
    """The table's rows at `positions`; the table itself where these are all of them, in order.

    Arrow's own take gathers a list's values one by one. Of long lists of numbers each is one block here.

    Raises:
        IndexError: a position is not in the table.
    """
    wanted = np.asarray(positions, dtype=np.int64)
    if wanted.size == len(table) and np.array_equal(wanted, np.arange(len(table))):
        return table
    if wanted.size and not (wanted.min() >= 0 and wanted.max() < len(table)):
        raise IndexError(f"the table has {len(table)} rows; wanted are {wanted.min()} to {wanted.max()}")
    indices = pa.array(wanted)
    columns = [
        _take_lists(column, wanted) if _numbers(column) else column.take(indices) for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _numbers(column: pa.ChunkedArray) -> bool:
    """Whether it is a column of lists of numbers, none of them null."""
    if not pt.is_list(column.type) or column.null_count:
        return False
    value = column.type.value_type
    whole = pt.is_integer(value) or pt.is_floating(value)
    return whole and not any(chunk.flatten().null_count for chunk in column.chunks)


def _take_lists(column: pa.ChunkedArray, wanted: npt.NDArray[np.int64]) -> pa.Array:
    chunks = [flatten(chunk) for chunk in column.chunks]
    firsts = np.cumsum([0, *(bounds.size - 1 for _, bounds in chunks)])
    of_chunk = np.searchsorted(firsts, wanted, side="right") - 1
    parts = [np.empty(0, column.type.value_type.to_pandas_dtype())]
    for chunk, row in zip(of_chunk.tolist(), (wanted - firsts[of_chunk]).tolist(), strict=True):
        values, bounds = chunks[chunk]
        parts.append(values[bounds[row] : bounds[row + 1]])
    offsets = np.cumsum([0, *(part.size for part in parts[1:])])
    return unflatten(np.concatenate(parts), offsets, column.type)
