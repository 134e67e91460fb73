"""List columns as flat arrays, and the fingerprint of a tokenizer."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_tables import MINE, VOCAB, rollouts

from rlad_core import schema

rows_of_floats = st.lists(
    st.lists(st.floats(-100, 0, width=32), min_size=1, max_size=6), min_size=1, max_size=8
)


@given(rows_of_floats, st.data())
@settings(max_examples=60, deadline=None)
def test_flatten_and_unflatten_are_inverse(rows: list[list[float]], data: st.DataObject) -> None:
    kind = schema.ROLLOUTS.field("rollout_logprobs").type
    start = data.draw(st.integers(0, len(rows) - 1))
    column = pa.chunked_array([schema.list_column(rows, kind)]).slice(start)
    values, offsets = schema.flatten(column)
    assert values.dtype == np.float32
    assert offsets[0] == 0
    assert [values[a:b].tolist() for a, b in pairwise(offsets)] == rows[start:]
    assert schema.unflatten(values, offsets, kind).equals(column.combine_chunks())


def test_one_chunk_is_not_copied() -> None:
    column = rollouts().column("rollout_logprobs")
    values, _ = schema.flatten(column)
    assert values.ctypes.data == column.chunk(0).values.buffers()[1].address


def test_nonsense_is_refused() -> None:
    kind = schema.ROLLOUTS.field("rollout_logprobs").type
    with pytest.raises(ValueError, match="rise from 0"):
        schema.unflatten([1.0, 2.0], [0, 1], kind)
    with pytest.raises(ValueError, match="rows are null"):
        schema.flatten(pa.array([[1.0], None], pa.list_(pa.float32())))
    with pytest.raises(ValueError, match=r"shape \(1, 1\)"):
        schema.list_column([[[1.0]]], kind)


def test_the_fingerprint_follows_the_map_and_not_its_order_or_padding() -> None:
    assert schema.tokenizer_fingerprint(dict(reversed(VOCAB.items()))) == MINE
    assert schema.tokenizer_fingerprint(VOCAB | {"a": 1, "b": 0}) != MINE


def test_the_fingerprint_is_stable_across_releases() -> None:
    assert MINE == "sha256:73223475eda28a86f02214cd487d6dd5"
