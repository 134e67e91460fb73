"""An Arrow stream that no writer writes: a flatbuffer may name one thing from many places."""

import struct


def naming_again(labels: int, value: bytes) -> bytes:
    """A stream whose schema has no columns, and names one label so many times."""
    # The tables' layouts, then message, schema, vectors, and the label: an offset points forward.
    layouts = struct.pack("<HHHHHH", 4 + 2 * 4, 16, 4, 6, 8, 0)  # message: version, kind, header
    layouts += struct.pack("<HHHHH", 4 + 2 * 3, 16, 0, 4, 8)  # schema: fields, labels
    layouts += struct.pack("<HHHH", 4 + 2 * 2, 12, 4, 8)  # label: key, value
    starts = 4, 16, 26
    body = bytearray(struct.pack("<I", 4 + len(layouts) + 2) + layouts + b"\0\0")
    message = len(body)
    body += struct.pack("<iHBBIi", message - starts[0], 4, 1, 0, 8, 0)
    table = len(body)
    body += struct.pack("<iIII", table - starts[1], 12, 12, 0)
    empty = len(body)
    assert empty == table + 16
    body += struct.pack("<I", 0)
    vector = len(body)
    label = vector + 4 + 4 * labels
    body += struct.pack("<I", labels)
    body += b"".join(struct.pack("<I", label - (vector + 4 + 4 * number)) for number in range(labels))
    body += struct.pack("<iII", label - starts[2], 8, 8 + 4)
    body += struct.pack("<I", 0) + b"\0" * 4
    body += struct.pack("<I", len(value)) + value + b"\0"
    body += b"\0" * (-len(body) % 8)
    end = b"\xff\xff\xff\xff\0\0\0\0"
    return struct.pack("<iI", -1, len(body)) + bytes(body) + end
