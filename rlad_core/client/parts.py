"""Requests that are larger than a service takes at a time: cut, sent as Arrow, put together in order."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rlad_core import schema
from rlad_core.client.endpoint import Endpoint
from rlad_core.client.errors import ServiceError
from rlad_core.client.forms import ARROW
from rlad_core.schema.validation import quote

BYTES_PER_PART = 2**24
"""Of a request's body: what a connection carries in a moment, and far below what a service takes."""
_ROW_BYTES = 64  # beside its values


def cut(sizes: Sequence[int], most_rows: int, most_size: int) -> Iterator[tuple[int, int]]:
    """First row and end of the parts within both limits: of rows, and of their sizes together.

    A row that alone is over them is a part of its own: the service says what is too much.
    """
    start = together = 0
    for row, size in enumerate(sizes):
        if row > start and (row - start == most_rows or together + size > most_size):
            yield start, row
            start, together = row, 0
        together += size
    if len(sizes) > start:
        yield start, len(sizes)


def most_bytes(max_body_bytes: int) -> int:
    """That the rows of a part may have, for a service that takes bodies of at most `max_body_bytes`."""
    return min(BYTES_PER_PART, max_body_bytes - max_body_bytes // 8)


def table_bytes(table: pa.Table) -> list[int]:
    """What each row takes in a body, in Arrow."""
    sizes = np.full(table.num_rows, _ROW_BYTES, np.int64)
    for column in table.columns if table.num_rows else ():
        kind = column.type
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
        elif pa.types.is_list(kind) and pa.types.is_primitive(kind.value_type):
            sizes += schema.lengths(column) * (-(-kind.value_type.bit_width // 8))
        else:  # on the average
            sizes += -(-column.nbytes // table.num_rows)
    sized: list[int] = sizes.tolist()
    return sized


async def ask_table(
    endpoint: Endpoint,
    path: str,
    table: pa.Table,
    kind: pa.Schema,
    *,
    what: str,
    params: Mapping[str, Any] | None = None,
) -> pa.Table:
    """What a service answers to a table: another one.

    Args:
        path: of the route.
        kind: schema of the answer.
        what: is asked for, for errors.

    Raises:
        ServiceError: what the service refuses, see `Endpoint.request`; or the answer is no such table.
        TimeoutError: no answer in time.
    """
    answer = await endpoint.request(
        "POST",
        path,
        what=what,
        content=schema.to_ipc(table),
        params=params,
        headers={"Content-Type": ARROW, "Accept": ARROW},
    )
    try:
        told = schema.from_ipc(answer.content)
        schema.validate(told, kind)
    except schema.SchemaError as error:
        wanted = schema.name_of(kind)
        raise ServiceError(f"{endpoint.url}{path} answered what is no {wanted}: {error}") from error
    return told


def name_sequences(ids: Sequence[str]) -> str:
    """Sequences by id for an error message."""
    return f"the sequences {quote(ids)}" if ids else "no sequences"


def in_order_of(ids: Sequence[str], told: pa.Table) -> pa.Table:
    """Rows in the order in which they were asked for by ``sequence_id``, whatever order they came in.

    Raises:
        ServiceError: an id is missing, or one came that was not asked for.
    """
    found = {sequence_id: row for row, sequence_id in enumerate(told.column("sequence_id").to_pylist())}
    if set(found) != set(ids):
        odd = sorted(set(found) ^ set(ids))
        raise ServiceError(f"the service's answer lacks or adds {name_sequences(odd)}")
    rows = [found[sequence_id] for sequence_id in ids]
    return told if rows == list(range(len(rows))) else told.take(rows)
