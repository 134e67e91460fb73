"""List columns as flat numpy arrays and back, without a Python loop over tokens.

A list column of n rows is the pair (values, offsets): row i is ``values[offsets[i]:offsets[i + 1]]``.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Flat = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]


def flatten(column: pa.Array | pa.ChunkedArray) -> Flat:
    """Values and offsets of a list column of numbers.

    The values are a view of Arrow's memory (read-only) where the column is one chunk, else a copy.

    Returns:
        values: [total] in the column's own type; offsets: int64 [rows + 1], from 0 to total.

    Raises:
        ValueError: a row or a value is null.
    """
    array = single_chunk(column)
    if array.null_count:
        raise ValueError(f"{array.null_count} rows are null: a null row has no values to flatten")
    values = array.flatten()
    if values.null_count:
        raise ValueError(f"{values.null_count} values inside the lists are null")
    offsets = array.offsets.to_numpy().astype(np.int64)
    return values.to_numpy(zero_copy_only=False), offsets - offsets[0]


def unflatten(values: npt.ArrayLike, offsets: npt.ArrayLike, list_type: pa.DataType) -> pa.Array:
    """A list column of `list_type` from flat values [total] and offsets [rows + 1]; inverse of `flatten`.

    Raises:
        ValueError: the offsets do not start at 0, fall, or do not end at the number of values.
        pyarrow.ArrowInvalid: a value does not fit the column's value type.
    """
    flat, bounds = np.asarray(values), np.asarray(offsets, dtype=np.int64)
    if bounds.size == 0 or bounds[0] != 0 or bounds[-1] != flat.size or np.any(np.diff(bounds) < 0):
        raise ValueError(f"offsets must rise from 0 to the number of values, which is {flat.size}")
    items = pa.array(flat)
    if items.type != list_type.value_type:
        # Integers must fit; floats may lose digits, since float32 is what the schemas promise.
        items = items.cast(list_type.value_type, safe=pa.types.is_integer(list_type.value_type))
    return pa.ListArray.from_arrays(pa.array(bounds, pa.int32()), items, type=list_type)


def list_column(rows: Sequence[npt.ArrayLike], list_type: pa.DataType) -> pa.Array:
    """A list column of `list_type` from one array (or list) of numbers per row.

    Raises:
        ValueError: a row is not one-dimensional, or not made of numbers.
        pyarrow.ArrowInvalid: a value does not fit the column's value type.
    """
    empty = np.empty(0, dtype=list_type.value_type.to_pandas_dtype())
    # An empty Python list is float64 to numpy, and would turn its neighbours' ids into floats.
    arrays = [array if (array := np.asarray(row)).size else empty for row in rows]
    for index, array in enumerate(arrays):
        if array.ndim != 1:
            raise ValueError(f"row {index} has shape {array.shape}, wanted one number per token")
        if array.dtype.kind not in "iuf":
            what = "something that is no number" if array.dtype.kind == "O" else str(array.dtype)
            raise ValueError(f"row {index} holds {what}, wanted numbers")
    offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
    np.cumsum([array.size for array in arrays], out=offsets[1:])
    return unflatten(np.concatenate([empty, *arrays]) if arrays else empty, offsets, list_type)


def lengths(column: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Number of values in each row of a list column, int64 [rows]; a null row counts as 0."""
    parts = [np.empty(0, np.int64)]
    for array in column.chunks if isinstance(column, pa.ChunkedArray) else (column,):
        counts = np.diff(array.offsets.to_numpy().astype(np.int64))
        if array.null_count:
            counts[array.is_null().to_numpy(zero_copy_only=False)] = 0
        parts.append(counts)
    return np.concatenate(parts)


def single_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column as one array: its only chunk as it is, several joined by copying."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column
