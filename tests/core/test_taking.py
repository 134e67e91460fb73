"""Rows in another order, as Arrow's own take has them; no copy where none is needed."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.schema import take_rows

TABLE = pa.table(
    {
        "ids": pa.array([[1, 2], [3], [], [4, 5, 6]], pa.list_(pa.int32())),
        "values": pa.array([[0.5], [-1.0, 2.0], [3.0], []], pa.list_(pa.float32())),
        "not all": pa.array([[1], None, [2, 3], []], pa.list_(pa.int64())),
        "holes": pa.array([[1, None], [2], [3], [4]], pa.list_(pa.int32())),
        "texts": pa.array([["a"], ["b", "c"], [], ["d"]], pa.list_(pa.string())),
        "name": ["w", "x", "y", "z"],
    }
).replace_schema_metadata({"of": "a test"})


@settings(max_examples=60, deadline=None)
@given(
    positions=st.lists(st.integers(0, 7), max_size=12),
    first=st.integers(0, 3),
    chunked=st.booleans(),
)
def test_as_arrow_takes_them(positions: list[int], first: int, chunked: bool) -> None:
    # Slices begin in the middle of Arrow's memory.
    table = pa.concat_tables([TABLE.slice(first), TABLE, TABLE])
    table = table if chunked else table.combine_chunks()
    taken = take_rows(table, positions)
    taken.validate(full=True)
    assert taken.equals(table.take(pa.array(positions, pa.int64())), check_metadata=True)


def test_all_in_order_are_the_table_itself() -> None:
    assert take_rows(TABLE, range(4)) is TABLE
    assert take_rows(TABLE, [0, 1, 2]) is not TABLE


@pytest.mark.parametrize("positions", [[4], [-1, 0]])
def test_a_row_that_is_not_there(positions: list[int]) -> None:
    with pytest.raises(IndexError, match="the table has 4 rows"):
        take_rows(TABLE, np.array(positions))
