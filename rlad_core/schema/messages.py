"""The messages of an Arrow IPC stream, looked at before any is decoded (Arrow's Message.fbs and Schema.fbs).

Arrow makes objects of whatever a message's metadata names. That may be a million columns, or one label that
is named a million times over: a flatbuffer may point to one thing from many places, and a few kilobytes can
come to more than the machine's memory. So what a request names is counted here, on the bytes as they are; a
place outside of them is an error, and nothing is gone through for longer than the bounds allow.
"""

import struct
from typing import Final

MOST_SCHEMA_BYTES: Final = 2**20
"""Of a schema, and of all names and labels in it together. That of our widest table takes some 3,000, without
labels that say something of each row.
"""
MOST_BATCH_BYTES: Final = 2**16
"""Of what a batch says of its columns: some 1,500 for our widest table."""
MOST_FIELDS: Final = 512
"""Columns, and the fields within them. Our widest table has some sixty."""
MOST_LABELS: Final = 256
USUAL_BATCHES: Final = 256
_BYTES_OF_A_BATCH: Final = 4096
"""A batch costs as much time as some 10,000 bytes of values, and 2,600 bytes of memory beside its own."""

_MARKER: Final = 0xFFFFFFFF
_V5: Final = 4
_SCHEMA, _RECORD_BATCH = 1, 3
_TIMESTAMP: Final = 10
_KINDS: Final = {2: "dictionary", 4: "tensor", 5: "sparse tensor"}


def end_of_messages(stream: memoryview, *, sent: bool) -> int:
    """Look at the messages of a stream without decoding them.

    Args:
        sent: it came in a request, and may have no more of anything than tables of ours do, nor more batches
            than its bytes are worth.

    Returns:
        Bytes up to its end mark, and with it; up to where it stops, if it has none.

    Raises:
        ValueError: a record batch is compressed, or there is something that tables of ours do not have, or
            more of it.
        struct.error: a place that a message names is not in it.
    """
    position, batches = 0, 0
    most = USUAL_BATCHES + len(stream) // _BYTES_OF_A_BATCH
    while position + 8 <= len(stream):
        marker, size = struct.unpack_from("<II", stream, position)
        if marker != _MARKER:
            raise ValueError(f"at byte {position} there is no message; write as all do since 2020")
        is_first, position = position == 0, position + 8
        if size == 0:
            break
        if sent:
            _refuse_over(size, MOST_SCHEMA_BYTES if is_first else MOST_BATCH_BYTES, "bytes about its columns")
        if position + size > len(stream):
            break  # which Arrow tells
        kind, body = _look_at(bytes(stream[position : position + size]), sent=sent)
        if (kind == _SCHEMA) != is_first:
            raise ValueError("its first message, and no other, has to be its schema")
        batches += kind == _RECORD_BATCH
        if sent and batches > most:
            raise ValueError(
                f"it has more than {most} record batches, the most that {len(stream)} bytes may come in; "
                "write fewer, larger ones (pyarrow: table.combine_chunks())"
            )
        position += size + body
    return position


def _look_at(metadata: bytes, *, sent: bool) -> tuple[int, int]:
    """A message's kind, and the bytes that follow its metadata."""
    message = _target(metadata, 0)
    kind = _number(metadata, message, 1, "B")
    if kind not in (_SCHEMA, _RECORD_BATCH):
        named = _KINDS.get(kind, f"number {kind}")
        raise ValueError(f"it has a message of the type {named}; send plain columns")
    # Until version 5 compression could be told in other places too.
    if (version := _number(metadata, message, 0, "h")) != _V5:
        raise ValueError(f"it is of version V{version + 1}; write V5, as all do since 2020")
    if not (place := _field(metadata, message, 2)):
        raise ValueError("it has an empty message")
    header = _target(metadata, place)
    if kind == _RECORD_BATCH and _field(metadata, header, 3):
        raise ValueError(
            "its buffers are compressed; write it without "
            "(pyarrow: IpcWriteOptions(compression=None), the default)"
        )
    if (body := _number(metadata, message, 3, "q")) < 0:
        raise ValueError("it has a message of less than no bytes")
    if sent:
        _vector(metadata, message, 4, 0, "labels of a message")
        if kind == _SCHEMA:
            _refuse_much(metadata, header)
    return kind, body


def _refuse_much(metadata: bytes, schema: int) -> None:
    """See that a schema comes to no more than it may; each thing in it counts as often as it is named."""
    columns, of = "columns and fields within them", "labels"
    fields = _vector(metadata, schema, 1, MOST_FIELDS, columns)
    labels = _vector(metadata, schema, 2, MOST_LABELS, of)
    size = 0
    for field in fields:  # they grow on the way
        fields += _vector(metadata, field, 5, MOST_FIELDS, columns)
        _refuse_over(len(fields), MOST_FIELDS, columns)
        labels += _vector(metadata, field, 6, MOST_LABELS, of)
        _refuse_over(len(labels), MOST_LABELS, of)
        size += _length(metadata, field, 0)
        if _number(metadata, field, 2, "B") == _TIMESTAMP and (place := _field(metadata, field, 3)):
            size += _length(metadata, _target(metadata, place), 1)  # its time zone
    size += sum(_length(metadata, label, part) for label in labels for part in (0, 1))
    _refuse_over(size, MOST_SCHEMA_BYTES, "bytes of names and labels")


def _refuse_over(count: int, most: int, what: str) -> None:
    if count > most:
        raise ValueError(
            f"it has {count} {what}; at most {most} are read: send what is asked for, and no more"
        )


def _vector(flatbuffer: bytes, table: int, index: int, most: int, what: str) -> list[int]:
    """The tables of a table's vector, which may be so many."""
    if not (place := _field(flatbuffer, table, index)):
        return []
    start = _target(flatbuffer, place)
    (count,) = struct.unpack_from("<I", flatbuffer, start)
    _refuse_over(count, most, what)
    return [_target(flatbuffer, start + 4 + 4 * number) for number in range(count)]


def _length(flatbuffer: bytes, table: int, index: int) -> int:
    """Bytes of a table's text."""
    if not (place := _field(flatbuffer, table, index)):
        return 0
    return int(struct.unpack_from("<I", flatbuffer, _target(flatbuffer, place))[0])


def _number(flatbuffer: bytes, table: int, index: int, form: str) -> int:
    """A table's number; 0 where it says none."""
    place = _field(flatbuffer, table, index)
    return int(struct.unpack_from("<" + form, flatbuffer, place)[0]) if place else 0


def _field(flatbuffer: bytes, table: int, index: int) -> int:
    """Where a table's field stands; 0: the table has none (FlatBuffers internals, "Tables")."""
    layout = table - int(struct.unpack_from("<i", flatbuffer, table)[0])
    if layout < 0:
        raise ValueError("a table of it begins before it")
    size, entry = struct.unpack_from("<H", flatbuffer, layout)[0], 4 + 2 * index
    offset = int(struct.unpack_from("<H", flatbuffer, layout + entry)[0]) if entry < size else 0
    return table + offset if offset else 0


def _target(flatbuffer: bytes, position: int) -> int:
    """Where the offset at a position points to."""
    return position + int(struct.unpack_from("<I", flatbuffer, position)[0])
