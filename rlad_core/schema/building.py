"""Tables made from Python and numpy data, typed, labelled and checked."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from rlad_core.schema.columns import list_column, single_chunk
from rlad_core.schema.declarations import has_tokens, made_by
from rlad_core.schema.errors import SchemaError
from rlad_core.schema.labels import TOKENIZER_KEY, name_of
from rlad_core.schema.token_values import Numbers, Source, TokenValue
from rlad_core.schema.validation import check_columns, check_values

Columns = Mapping[str, Any]
Rows = Sequence[Mapping[str, Any]]


def build(
    schema: pa.Schema,
    data: Columns | Rows,
    *,
    tokenizer_fingerprint: str | None = None,
    vocab_size: int | None = None,
) -> pa.Table:
    """Make a table of `schema` and validate it, so that a table that exists is a right one.

    Args:
        schema: one of the schemas of this package.
        data: either columns by name (Arrow arrays, numpy arrays or sequences; for a list column a sequence
            with one array per row, or an Arrow array from `unflatten`), or rows as mappings. A nullable
            column may be left out and is then null throughout.
        tokenizer_fingerprint: required where the schema holds token ids or log-probs.
        vocab_size: see `validate`.

    Raises:
        SchemaError: see `validate`; also where a value does not fit its column's type.
    """
    name = name_of(schema)
    columns = _by_column(schema, data)
    if len({len(column) for column in columns.values()}) > 1:
        counts = {column: len(values) for column, values in columns.items()}
        raise SchemaError(f"columns of different lengths: {counts}", schema=name)
    count = len(next(iter(columns.values()))) if columns else 0
    arrays = [
        _array(columns[field.name], field, name) if field.name in columns else pa.nulls(count, field.type)
        for field in schema
    ]
    table = pa.Table.from_arrays(arrays, schema=schema)
    return label(table, schema, tokenizer_fingerprint=tokenizer_fingerprint, vocab_size=vocab_size)


def label(
    table: pa.Table,
    schema: pa.Schema,
    *,
    tokenizer_fingerprint: str | None = None,
    vocab_size: int | None = None,
) -> pa.Table:
    """A table of Arrow columns checked as `validate` does, put into the schema's order and labelled.

    Raises:
        SchemaError: see `validate`; also where no fingerprint is given and the schema needs one.
    """
    if tokenizer_fingerprint is None and has_tokens(schema):
        raise SchemaError(
            "holds tokens: say whose, with tokenizer_fingerprint=schema.tokenizer_fingerprint(vocab)",
            schema=name_of(schema),
        )
    check_columns(table, schema)
    metadata = dict(schema.metadata)
    if tokenizer_fingerprint is not None:
        metadata[TOKENIZER_KEY] = tokenizer_fingerprint.encode()
    # Before the cast, which would let nulls into types that promise none.
    check_values(table, schema, vocab_size=vocab_size)
    return table.select(schema.names).cast(schema).replace_schema_metadata(metadata)


def token_columns(
    source: Source, told: Sequence[Mapping[str, Numbers]], *, asked: Collection[str] = ()
) -> dict[str, list[Numbers | None]]:
    """Columns for `build` of what an engine tells of each response: all that is declared of this source.

    Args:
        source: whose values.
        told: of each response the values by column: [T] for T tokens, [T, k] where there are k per token.
        asked: columns that are made when asked for, and were. Those that were not are left out.

    Raises:
        SchemaError: something is told that is not declared, or left out that is required or was asked for.
    """
    declared = made_by(source)
    names = {value.name for value in declared}
    for place, values in enumerate(told):
        if unknown := sorted(values.keys() - names):
            raise SchemaError(
                f"is told by the {source} engine, and no line of TOKEN_VALUES declares it for that source",
                column=unknown[0],
                row=place,
            )
    columns: dict[str, list[Numbers | None]] = {}
    for value in declared:
        if value.presence == "asked" and value.name not in asked:
            continue
        arrays = [values.get(value.name) for values in told]
        if value.presence != "optional" and (row := _first_none(arrays)) is not None:
            raise SchemaError(f"is left out by the {source} engine", column=value.name, row=row)
        columns[value.name] = [
            None if array is None else _flat(array, value, told[row], row) for row, array in enumerate(arrays)
        ]
    return columns


def _flat(array: Numbers, value: TokenValue, told: Mapping[str, Numbers], row: int) -> Numbers:
    wanted, dimensions = ("[T, k]", 2) if value.has_several else ("[T]", 1)
    tokens = next((len(each) for each in told.values() if each.ndim == 1), None)
    if array.ndim != dimensions or (dimensions == 2 and tokens not in (None, len(array))):
        raise SchemaError(
            f"has shape {array.shape}; {wanted} is wanted, for {tokens} tokens", column=value.name, row=row
        )
    return array.reshape(-1)


def _first_none(arrays: Sequence[Numbers | None]) -> int | None:
    return next((row for row, array in enumerate(arrays) if array is None), None)


def _by_column(schema: pa.Schema, data: Columns | Rows) -> dict[str, Any]:
    name = name_of(schema)
    if isinstance(data, Mapping):
        columns = dict(data)
        for field in schema:
            if field.name not in columns and not field.nullable:
                raise SchemaError(f"missing; given were {sorted(columns)}", schema=name, column=field.name)
        for column in columns:
            if column not in schema.names:
                raise SchemaError(
                    f"not part of the schema, which has {schema.names}", schema=name, column=column
                )
        return columns
    for index, row in enumerate(data):
        for field in schema:
            if field.name not in row and not field.nullable:
                raise SchemaError("missing", schema=name, column=field.name, row=index)
        if unexpected := sorted(set(row) - set(schema.names)):
            raise SchemaError("not part of the schema", schema=name, column=unexpected[0], row=index)
    return {field.name: [row.get(field.name) for row in data] for field in schema}


def _array(values: Any, field: pa.Field, schema: str) -> pa.Array:
    kind = field.type
    try:
        if isinstance(values, pa.Array | pa.ChunkedArray):
            return single_chunk(values).cast(kind)
        if pa.types.is_list(kind):
            return _lists(values, kind)
        if pa.types.is_map(kind):
            values = [list(v.items()) if isinstance(v, Mapping) else v for v in values]
        return pa.array(values, type=kind, from_pandas=False)
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise SchemaError(
            f"does not fit {kind}: {error}", schema=schema, column=field.name, row=_culprit(values, kind)
        ) from error


def _lists(values: Any, kind: pa.DataType) -> pa.Array:
    if any(row is None for row in values):
        return pa.array(values, type=kind)
    return list_column(values, kind)


def _culprit(values: Any, kind: pa.DataType) -> int | None:
    """The first row that does not convert by itself; only on the way to an error message."""
    for index, value in enumerate(values):
        try:
            _lists([value], kind) if pa.types.is_list(kind) else pa.array([value], type=kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError):
            return index
    return None
