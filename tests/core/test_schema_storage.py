"""Bytes and files: round trips without loss, and what is damaged, cut or compressed is noticed."""

import contextlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema_tables import MINE, joined, rollouts

from rlad_core import schema
from rlad_core.schema import SchemaError


def stream(table: pa.Table, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue().to_pybytes())


def test_round_trips_lose_nothing(tmp_path: Any) -> None:
    table = joined(rollouts())
    assert schema.from_ipc(schema.to_ipc(table)).equals(table, check_metadata=True)
    schema.to_parquet(table, tmp_path / "table.parquet")
    back = schema.from_parquet(tmp_path / "table.parquet")
    assert back.equals(table, check_metadata=True)
    assert back.schema.equals(table.schema, check_metadata=True)


def test_every_truncation_is_noticed() -> None:
    data = schema.to_ipc(rollouts())
    for size in range(len(data)):
        with pytest.raises(SchemaError):
            schema.from_ipc(data[:size])


def test_a_stream_cut_between_batches_is_noticed() -> None:
    table = rollouts()
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, table.schema)
    writer.write_table(table.slice(0, 2))
    cut = sink.tell()
    writer.write_table(table.slice(2))
    writer.close()
    whole = sink.getvalue().to_pybytes()
    assert schema.from_ipc(whole).num_rows == 4
    with pytest.raises(SchemaError, match=r"2 rows read.*no end mark"):
        schema.from_ipc(whole[:cut])


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_streams_are_refused_before_they_expand(codec: str) -> None:
    table = pa.table({"zeros": np.zeros(2**22, np.int32)})
    data = stream(table, pa.ipc.IpcWriteOptions(compression=codec))
    assert len(data) < table.nbytes / 100
    before, peak = pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()
    with pytest.raises(SchemaError, match=r"buffers are compressed; write it without"):
        schema.from_ipc(data)
    assert pa.total_allocated_bytes() - before < 2**20
    assert pa.default_memory_pool().max_memory() == peak


def test_a_compressed_batch_after_others_is_noticed() -> None:
    # Arrow leaves tiny buffers as they are, and the batch still counts as compressed.
    table = rollouts()
    plain, packed = stream(table), stream(table, pa.ipc.IpcWriteOptions(compression="zstd"))
    head = len(stream(table.slice(0, 0))) - 8
    with pytest.raises(SchemaError, match="buffers are compressed"):
        schema.from_ipc(plain[:-8] + packed[head:])
    assert schema.from_ipc(plain[:-8] + plain[head:]).num_rows == 2 * table.num_rows


def test_other_ways_to_hide_size_are_refused() -> None:
    encoded = pa.table({"a": pa.array(["x", "x"]).dictionary_encode()})
    with pytest.raises(SchemaError, match="message of the type dictionary"):
        schema.from_ipc(stream(encoded))
    old = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pytest.raises(SchemaError, match="version V4; write V5"):
        schema.from_ipc(stream(rollouts(), old))


def test_corrupt_files_are_named(tmp_path: Any) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(SchemaError, match=r"bad\.parquet is not a readable Parquet file"):
        schema.from_parquet(tmp_path / "bad.parquet")
    with pytest.raises(FileNotFoundError):
        schema.from_parquet(tmp_path / "none.parquet")


@given(st.integers(0, 2**32), st.integers(0, 255))
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_never_do_worse_than_an_error(place: int, value: int) -> None:
    data = bytearray(schema.to_ipc(rollouts()))
    data[place % len(data)] = value
    with contextlib.suppress(SchemaError):
        schema.validate(schema.from_ipc(bytes(data)), schema.ROLLOUTS, vocab_size=4)


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
            st.lists(st.integers(0, 9), min_size=1, max_size=5),
        ),
        max_size=10,
    )
)
@settings(max_examples=50, deadline=None)
def test_anything_built_survives_the_wire(pairs: list[tuple[list[int], list[int]]]) -> None:
    rows = [
        {"sequence_id": str(i), "prompt_token_ids": p, "response_token_ids": r}
        for i, (p, r) in enumerate(pairs)
    ]
    table = schema.build(schema.SEQUENCES, rows, tokenizer_fingerprint=MINE, vocab_size=10)
    back = schema.from_ipc(schema.to_ipc(table))
    schema.validate(back, schema.SEQUENCES, vocab_size=10, tokenizer_fingerprint=MINE)
    assert back.to_pylist() == rows


@pytest.mark.parametrize("junk", [b"\0" * 4, b"\0" * 8, b"junk", b"\xff" * 4, b"\xff" * 8, b"\1\0\0\0"])
def test_no_row_vanishes_between_or_behind_the_messages(junk: bytes) -> None:
    table = rollouts()
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, table.schema)
    places = [0]
    for start in range(0, 4, 2):
        writer.write_table(table.slice(start, 2))
        places.append(sink.tell())
    writer.close()
    whole = sink.getvalue().to_pybytes()
    for broken in (whole + whole, whole + junk, *(whole[:p] + junk + whole[p:] for p in places)):
        with pytest.raises(SchemaError):
            schema.from_ipc(broken)
    with pytest.raises(
        SchemaError, match=rf"ends after {len(whole)} of {2 * len(whole)} bytes \(4 rows read\)"
    ):
        schema.from_ipc(whole + whole)
