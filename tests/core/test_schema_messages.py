"""What a request's Arrow stream may name: counted before anything is made of it."""

import tracemalloc

import pyarrow as pa
import pytest
from schema_tables import MINE, rollouts

from rlad_core import schema
from rlad_core.schema import SchemaError
from rlad_core.schema.messages import MOST_FIELDS, MOST_LABELS, USUAL_BATCHES
from tests.arrow_labels import naming_again

_LABELS = {"rlad.schema": "sequences", "rlad.version": "1", "rlad.tokenizer": MINE}
_SHORT = 400
"""Characters of a message."""


def stream(of: pa.Schema, *batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, of) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def sequences(rows: int) -> pa.Table:
    columns = [
        {"sequence_id": str(row), "prompt_token_ids": [1], "response_token_ids": [2]} for row in range(rows)
    ]
    return schema.build(schema.SEQUENCES, columns, tokenizer_fingerprint=MINE)


def refused(data: bytes, match: str) -> None:
    """Refused in few words, and with little memory of Python's or Arrow's beside it."""
    arrow, most = pa.total_allocated_bytes(), pa.default_memory_pool().max_memory()
    tracemalloc.start()
    try:
        with pytest.raises(SchemaError, match=match) as error:
            schema.from_ipc(data, sent=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < _SHORT
    assert peak < 2**20 + len(data)
    assert pa.total_allocated_bytes() == arrow
    assert pa.default_memory_pool().max_memory() == most


@pytest.mark.parametrize("columns", [MOST_FIELDS + 1, 100_000])
def test_more_columns_than_a_table_has_are_not_decoded(columns: int) -> None:
    fields = [(str(number), pa.int8()) for number in range(columns)]
    refused(stream(pa.schema(fields, metadata=_LABELS)), "at most .* are read")
    within = pa.schema([("a", pa.struct(fields))], metadata=_LABELS)
    refused(stream(within), "at most .* are read")


def test_more_labels_than_a_table_has_are_not_decoded() -> None:
    many = {str(number): "" for number in range(MOST_LABELS + 1)}
    refused(stream(pa.schema([("a", pa.int8())], metadata=many)), f"labels; at most {MOST_LABELS} are read")
    of_fields = pa.schema([pa.field("a", pa.int8(), metadata=many)])
    refused(stream(of_fields), f"labels; at most {MOST_LABELS} are read")


@pytest.mark.parametrize(("labels", "told"), [(100_000, "labels; at most"), (200, "names and labels")])
def test_one_label_that_is_named_again_and_again_counts_each_time(labels: int, told: str) -> None:
    # By hand: no writer does that. Decoded it would be as many copies of the label.
    assert schema.from_ipc(naming_again(3, value=b"x")).schema.metadata == {b"": b"x"}
    refused(naming_again(labels, value=b"x" * 2**17), told)


@pytest.mark.parametrize(("batches", "rows"), [(28_000, 0), (4096, 1)])
def test_many_small_batches_are_refused(batches: int, rows: int) -> None:
    [batch] = sequences(1).to_batches()
    data = stream(batch.schema, *[batch.slice(0, rows)] * batches)
    refused(data, r"more than \d+ record batches, .* write fewer, larger ones")
    assert schema.from_ipc(data).num_rows == batches * rows  # of a file, or an answer


def test_labels_of_a_batch_are_refused() -> None:
    [batch] = sequences(1).to_batches()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch, custom_metadata={"a": "b"})
    refused(sink.getvalue().to_pybytes(), "1 labels of a message; at most 0")


def test_what_is_put_together_of_many_tables_is_sent_in_few_batches() -> None:
    table = sequences(10 * USUAL_BATCHES)
    pieces = pa.concat_tables([table.slice(row, 1) for row in range(len(table))])
    assert len(pieces.to_batches()) == len(table)
    assert schema.from_ipc(schema.to_ipc(pieces), sent=True).equals(table, check_metadata=True)


def test_as_many_batches_as_the_bytes_are_worth_are_taken() -> None:
    [batch] = sequences(1).to_batches()
    assert (
        schema.from_ipc(stream(batch.schema, *[batch] * USUAL_BATCHES), sent=True).num_rows == USUAL_BATCHES
    )
    large = rollouts()
    assert schema.from_ipc(schema.to_ipc(large), sent=True).equals(large, check_metadata=True)


def test_what_is_said_of_a_table_is_short() -> None:
    long = "x" * 10**6
    table = sequences(2)
    with pytest.raises(SchemaError) as error:
        schema.validate(table.append_column(long, pa.array([1, 2])), schema.SEQUENCES)
    assert len(str(error.value)) < _SHORT
    others = pa.table({f"{number}{long}": [1] for number in range(50)}).replace_schema_metadata(_LABELS)
    with pytest.raises(SchemaError, match="and 45 more") as error:
        schema.validate(others, schema.SEQUENCES)
    assert len(str(error.value)) < 3 * _SHORT
    twice = table.set_column(0, "sequence_id", pa.array([long, long]))
    with pytest.raises(SchemaError, match="occurs a second time") as error:
        schema.validate(twice, schema.SEQUENCES)
    assert len(str(error.value)) < _SHORT


def test_an_empty_id_is_refused() -> None:
    table = sequences(2).set_column(0, "sequence_id", pa.array(["a", ""]))
    with pytest.raises(SchemaError, match="is no id") as error:
        schema.validate(table, schema.SEQUENCES)
    assert (error.value.row, error.value.column) == (1, "sequence_id")
