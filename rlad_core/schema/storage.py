"""Tables as bytes (Arrow IPC stream) and as files (Parquet), without loss of types or labels."""

import struct
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.schema.errors import SchemaError

# The end mark of an IPC stream: a continuation marker and a length of 0 (Arrow columnar format, "IPC
# Streaming Format"). Readers accept a stream without it, which makes a stream cut between two batches look
# complete with rows missing; we don't.
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def to_ipc(table: pa.Table) -> bytes:
    """The table as an Arrow IPC stream (media type ``application/vnd.apache.arrow.stream``)."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def from_ipc(data: bytes | bytearray | memoryview | pa.Buffer) -> pa.Table:
    """The table inside an Arrow IPC stream; its memory is `data`, not a copy.

    The structure is checked (offsets, buffer sizes, UTF-8), so that bytes from elsewhere are safe to read;
    what the columns hold is for `validate`. Compressed buffers are refused: a few kilobytes of them can hold
    more than the machine's memory.

    Raises:
        SchemaError: not an IPC stream, cut short, compressed, with inconsistent buffers, or with anything
            behind its end mark.
    """
    buffer = data if isinstance(data, pa.Buffer) else pa.py_buffer(data)
    if buffer.size == 0:
        raise SchemaError("no bytes where an Arrow IPC stream was expected")
    try:
        end = _end_of_messages(buffer)
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


def _end_of_messages(stream: pa.Buffer) -> int:
    """Look at the messages of a stream without decoding them (Arrow's format/Message.fbs).

    Returns:
        Bytes up to its end mark, and with it.

    Raises:
        ValueError: a record batch is compressed, or there is something that tables of ours do not have.
    """
    source = pa.BufferReader(stream)
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.type not in ("schema", "record batch"):
            raise ValueError(f"it has a message of the type {message.type}; send plain columns")
        # Until version 5 compression could be told in other places too.
        if message.metadata_version != pa.ipc.MetadataVersion.V5:
            raise ValueError(
                f"it is of version {message.metadata_version.name}; write V5, as all do since 2020"
            )
        # Field 2 of the table Message is its header, field 3 of the table RecordBatch its compression.
        metadata = message.metadata.to_pybytes()
        header = _target(metadata, _field(metadata, _target(metadata, 0), 2))
        if message.type == "record batch" and _field(metadata, header, 3):
            raise ValueError(
                "its buffers are compressed; write it without "
                "(pyarrow: IpcWriteOptions(compression=None), the default)"
            )
    return int(source.tell())


def _field(flatbuffer: bytes, table: int, index: int) -> int:
    """Where a table's field stands; 0: the table has none (FlatBuffers internals, "Tables")."""
    layout = table - int(struct.unpack_from("<i", flatbuffer, table)[0])
    size, entry = struct.unpack_from("<H", flatbuffer, layout)[0], 4 + 2 * index
    offset = int(struct.unpack_from("<H", flatbuffer, layout + entry)[0]) if entry < size else 0
    return table + offset if offset else 0


def _target(flatbuffer: bytes, position: int) -> int:
    """Where the offset at a position points to."""
    return position + int(struct.unpack_from("<I", flatbuffer, position)[0])


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
