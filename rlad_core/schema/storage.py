"""Tables as bytes (Arrow IPC stream) and as files (Parquet), without loss of types or labels."""

import struct
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.schema.errors import SchemaError
from rlad_core.schema.messages import USUAL_BATCHES, end_of_messages

# The end mark of an IPC stream: a continuation marker and a length of 0 (Arrow columnar format, "IPC
# Streaming Format"). Readers accept a stream without it, which makes a stream cut between two batches look
# complete with rows missing; we don't.
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def to_ipc(table: pa.Table) -> bytes:
    """The table as an Arrow IPC stream (media type ``application/vnd.apache.arrow.stream``)."""
    # A batch is made of each chunk, and a table of many rows that were put together has many: a request that
    # has so many batches is refused.
    if len(table.to_batches()) > USUAL_BATCHES:
        table = table.combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def from_ipc(data: bytes | bytearray | memoryview | pa.Buffer, *, sent: bool = False) -> pa.Table:
    """The table inside an Arrow IPC stream; its memory is `data`, not a copy.

    The structure is checked (offsets, buffer sizes, UTF-8), so that bytes from elsewhere are safe to read;
    what the columns hold is for `validate`. Compressed buffers are refused: a few kilobytes of them can hold
    more than the machine's memory.

    Args:
        sent: it came in a request. Then more columns and labels are refused than a table of ours can have,
            and very many small batches, each of which costs as much as thousands of values. What was written
            here, or asked for, may have any number.

    Raises:
        SchemaError: not an IPC stream, cut short, compressed, with inconsistent buffers, with more in it
            than is read, or with anything behind its end mark.
    """
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    if buffer.size == 0:
        raise SchemaError("no bytes where an Arrow IPC stream was expected")
    try:
        end = end_of_messages(memoryview(buffer), sent=sent)
        with pa.ipc.open_stream(buffer) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, struct.error) as error:
        raise SchemaError(
            f"not a readable Arrow IPC stream ({buffer.size} bytes): {_first_line(error)}"
        ) from error
    tail = buffer.slice(max(0, buffer.size - len(_END_OF_STREAM))).to_pybytes()
    if tail != _END_OF_STREAM:
        raise SchemaError(
            f"the Arrow IPC stream ({buffer.size} bytes, {table.num_rows} rows read) has no end mark: "
            "it was cut short, or its writer was not closed"
        )
    # A reader takes the first end mark for the end, also where bytes follow, which may be another stream.
    if end != buffer.size:
        raise SchemaError(
            f"the Arrow IPC stream ends after {end} of {buffer.size} bytes ({table.num_rows} rows read): "
            "send one stream, with nothing between its messages or behind it"
        )
    return table


def to_parquet(table: pa.Table, path: Path) -> None:
    """Write one Parquet file, labels included; the folder must exist."""
    pq.write_table(table, path, compression="zstd")


def from_parquet(path: Path) -> pa.Table:
    """Read one Parquet file that `to_parquet` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        SchemaError: it is not a readable Parquet file.
    """
    try:
        # ParquetFile and not read_table: the latter adds columns from folder names such as `run=3`.
        with pq.ParquetFile(path) as file:
            table = file.read()
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SchemaError(f"{path} is not a readable Parquet file: {_first_line(error)}") from error
    return table.cast(pa.schema([_with_arrow_names(f) for f in table.schema], metadata=table.schema.metadata))


def _with_arrow_names(field: pa.Field) -> pa.Field:
    """The field with Arrow's names inside lists and maps, for which Parquet has its own."""
    kind = field.type
    if pa.types.is_list(kind):
        kind = pa.list_(pa.field("item", kind.value_type, nullable=kind.value_field.nullable))
    elif pa.types.is_map(kind):
        kind = pa.map_(kind.key_type, pa.field("value", kind.item_type, nullable=kind.item_field.nullable))
    return field.with_type(kind)


def _first_line(error: BaseException) -> str:
    """Arrow appends its C++ call stack to some messages."""
    return (str(error) or type(error).__name__).splitlines()[0]
