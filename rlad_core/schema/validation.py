"""Whether a table keeps its schema's promises; the first breach is named by row and column."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rlad_core.schema.columns import single_chunk
from rlad_core.schema.declarations import FINISH_REASONS
from rlad_core.schema.errors import SchemaError
from rlad_core.schema.labels import NAME_KEY, VERSION, VERSION_KEY, fingerprint_of, name_of
from rlad_core.schema.lists import check_aligned, check_numbers, locate

_IDS_AT_A_TIME = 4096
_QUOTED = 5
_LETTERS = 100
"""Of what was sent, in a message."""
_IDS = ("sequence_id", "prompt_id")


def validate(
    table: pa.Table,
    schema: pa.Schema,
    *,
    vocab_size: int | None = None,
    tokenizer_fingerprint: str | None = None,
) -> None:
    """Check that `table` is what `schema` promises.

    Args:
        table: any number of rows (0 is fine), in any number of chunks.
        schema: one of the schemas of this package.
        vocab_size: token ids must lie in [0, vocab_size); None checks only that none is negative.
        tokenizer_fingerprint: what the table's label must say; None accepts any.

    Raises:
        SchemaError: wrong label, version or tokenizer; missing, unexpected or wrongly typed column; null, NaN
            or infinite value; a value per token that breaks its declaration's rule (log-prob above 0, token
            id outside the vocabulary, ...); empty list; lists of one row that disagree in length, or lists
            of k per token that disagree in k; unknown finish reason; an id twice.
    """
    check_label(table, schema, tokenizer_fingerprint=tokenizer_fingerprint)
    check_columns(table, schema)
    check_values(table, schema, vocab_size=vocab_size)


def check_label(table: pa.Table, schema: pa.Schema, *, tokenizer_fingerprint: str | None = None) -> None:
    """The metadata: schema name, version, tokenizer.

    Raises:
        SchemaError: no label, or one of another schema, version or tokenizer.
    """
    name = name_of(schema)
    metadata = table.schema.metadata or {}
    if NAME_KEY not in metadata:
        raise SchemaError(
            "the table carries no label 'rlad.schema' in its schema metadata; make it with schema.build()",
            schema=name,
        )
    found = metadata[NAME_KEY].decode(errors="replace")
    if found != name:
        raise SchemaError(f"the table is labelled {_shown(found)}", schema=name)
    version = metadata.get(VERSION_KEY, b"missing").decode(errors="replace")
    if version != str(VERSION):
        raise SchemaError(
            f"the table has version {version[:_LETTERS]}, this code reads version {VERSION}; "
            "both sides need the same release of rlad",
            schema=name,
        )
    actual = fingerprint_of(table)
    if tokenizer_fingerprint is not None and actual != tokenizer_fingerprint:
        raise SchemaError(
            f"made with tokenizer {(actual or '(not stated)')[:_LETTERS]}, wanted {tokenizer_fingerprint}; "
            "token ids mean nothing across tokenizers",
            schema=name,
        )


def check_columns(table: pa.Table, schema: pa.Schema) -> None:
    """Names and types. Order and declared nullability are free: other Arrow libraries differ in both.

    Raises:
        SchemaError: a column is missing, unexpected, there twice, or of another type; names it.
    """
    name = name_of(schema)
    names = table.column_names  # made anew each time
    known = set(names)
    if len(known) != len(names):
        raise SchemaError(f"a column name occurs twice in {quote(names)}", schema=name)
    if missing := [c for c in schema.names if c not in known]:
        raise SchemaError(f"missing; the table has {quote(names)}", schema=name, column=missing[0])
    if unexpected := known.difference(schema.names):
        first = next(c for c in names if c in unexpected)
        raise SchemaError(
            f"not part of the schema, which has {schema.names}", schema=name, column=first[:_LETTERS]
        )
    for field in schema:
        found = table.schema.field(field.name).type
        if not _same_type(found, field.type):
            raise SchemaError(
                f"has type {str(found)[:_LETTERS]}, wanted {_plain(field.type)}",
                schema=name,
                column=field.name,
            )


def check_values(table: pa.Table, schema: pa.Schema, *, vocab_size: int | None = None) -> None:
    """Everything about the rows; names and types are taken as right.

    Args:
        vocab_size: see `validate`.

    Raises:
        SchemaError: a value breaks its declaration's rule, see `validate`; names the column and the first
            row.
    """
    name = name_of(schema)
    for field in schema:
        whole = table.column(field.name)
        _check_nulls(whole, field, name)
        if whole.null_count:  # all of it, which _check_nulls let pass
            continue
        if pa.types.is_list(field.type):
            check_numbers(whole, field.name, name, vocab_size)
            continue
        column = single_chunk(whole)
        if pa.types.is_floating(field.type):
            bad = ~np.isfinite(column.to_numpy(zero_copy_only=False))
            _refuse_first(bad, column, "must be finite", name, field.name)
        elif pa.types.is_map(field.type):
            _check_parts(column, name, field.name)
    check_aligned(table, schema)
    _check_scalars(table, name)
    _check_unique(table, name)


def _check_nulls(column: pa.ChunkedArray, field: pa.Field, schema: str) -> None:
    if column.null_count == 0 or (field.nullable and column.null_count == len(column)):
        return
    row = int(np.argmax(column.is_null().to_numpy(zero_copy_only=False)))
    rule = "null in some rows and not in others" if field.nullable else "is null"
    raise SchemaError(rule, schema=schema, column=field.name, row=row)


def _check_parts(column: pa.Array, schema: str, name: str) -> None:
    first, last = column.offsets[0].as_py(), column.offsets[-1].as_py()
    values = column.items.slice(first, last - first)
    bad = ~pc.fill_null(pc.is_finite(values), False).to_numpy(zero_copy_only=False)
    if bad.any():
        row, _ = locate(int(np.argmax(bad)), column.offsets.to_numpy() - first)
        raise SchemaError("a part is null or not finite", schema=schema, column=name, row=row)


def _check_scalars(table: pa.Table, schema: str) -> None:
    for name in set(_IDS) & set(table.column_names):
        column = single_chunk(table.column(name))
        empty = pc.equal(pc.binary_length(column), 0).to_numpy(zero_copy_only=False)
        _refuse_first(empty, column, "is no id", schema, name)
    if "finish_reason" in table.column_names:
        column = single_chunk(table.column("finish_reason"))
        known = pc.is_in(column, value_set=pa.array(FINISH_REASONS))
        rule = f"must be one of {', '.join(FINISH_REASONS)}"
        _refuse_first(~known.to_numpy(zero_copy_only=False), column, rule, schema, "finish_reason")
    if "sample_index" in table.column_names:
        column = single_chunk(table.column("sample_index"))
        _refuse_first(column.to_numpy() < 0, column, "must be at least 0", schema, "sample_index")
        if "sequence_id" in table.column_names:
            column = single_chunk(table.column("sequence_id"))
            same = pc.equal(column, sequence_ids(table)).to_numpy(zero_copy_only=False)
            _refuse_first(~same, column, "is not group_id/sample_index", schema, "sequence_id")


def _check_unique(table: pa.Table, schema: str) -> None:
    if "sequence_id" in table.column_names:
        key, ids = "sequence_id", single_chunk(table.column("sequence_id"))
    elif "sample_index" in table.column_names:
        key, ids = "sample_index", sequence_ids(table)
    else:
        key, ids = "prompt_id", single_chunk(table.column("prompt_id"))
    row = first_repeat(ids)
    if row is not None:
        raise SchemaError(
            f"{_shown(ids[row].as_py())} occurs a second time", schema=schema, column=key, row=row
        )


def sequence_ids(table: pa.Table) -> pa.Array:
    """``group_id/sample_index`` of every row of rollouts or experience, as a string array."""
    index = pc.cast(single_chunk(table.column("sample_index")), pa.string())
    return pc.binary_join_element_wise(single_chunk(table.column("group_id")), index, "/")


def first_repeat(ids: pa.Array) -> int | None:
    """Row of the first id that an earlier row has too; None where all differ."""
    # A hash table would take a hundred bytes for an id, and putting strings in order fifty: numbers do first.
    hashes = np.fromiter(_hashes(ids), np.int64, len(ids))
    hashes.sort()
    if not (hashes[1:] == hashes[:-1]).any():
        return None
    order = pc.array_sort_indices(ids)
    ordered = ids.take(order)
    again = pc.equal(ordered[1:], ordered[:-1]).to_numpy(zero_copy_only=False)
    # Rows of one id stand in their order, since the sort is stable.
    return int(order.to_numpy()[1:][again].min()) if again.any() else None


def _hashes(ids: pa.Array) -> Iterator[int]:
    for start in range(0, len(ids), _IDS_AT_A_TIME):
        yield from map(hash, ids.slice(start, _IDS_AT_A_TIME).to_pylist())


def _refuse_first(bad: npt.NDArray[np.bool_], column: pa.Array, rule: str, schema: str, name: str) -> None:
    if bad.any():
        row = int(np.argmax(bad))
        raise SchemaError(f"{_shown(column[row].as_py())} {rule}", schema=schema, column=name, row=row)


def _same_type(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal up to the nullability and the names of inner fields."""
    if pa.types.is_map(wanted):
        return pa.types.is_map(found) and (found.key_type, found.item_type) == (
            wanted.key_type,
            wanted.item_type,
        )
    if pa.types.is_list(wanted):
        return bool(pa.types.is_list(found) and found.value_type == wanted.value_type)
    return bool(found == wanted)


def _plain(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return f"list<{kind.value_type}>"
    if pa.types.is_map(kind):
        return f"map<{kind.key_type}, {kind.item_type}>"
    return str(kind)


def quote(ids: Sequence[str]) -> str:
    """The first few ids, for a message, and how many more there are."""
    shown = ", ".join(map(_shown, ids[:_QUOTED]))
    return shown if len(ids) <= _QUOTED else f"{shown} and {len(ids) - _QUOTED} more"


def _shown(value: object) -> str:
    """A value for a message, which may not be as long as what was sent."""
    return repr(value[:_LETTERS] if isinstance(value, str) else value)
