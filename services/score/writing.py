"""The output: each row of the file as it was, with what the teacher told of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.data import Row, is_table, rows, stem, table_batches
from services.base.whole_files import remove_unfinished, whole
from services.score.asked import AskedError
from services.score.asking import SCORES
from services.score.parts import Parts

FORMATS = (".parquet", ".arrow", ".feather", ".jsonl", ".ndjson")
_LINES = (".jsonl", ".ndjson")
_ROWS_AT_A_TIME = 1024


def default_out(path: str) -> Path:
    """Beside a file: its name with ``.scored``, in its own format where that can be written."""
    place = Path(path)
    ending = next((each for each in FORMATS if place.name.lower().endswith(each)), ".jsonl")
    # The rest of the name stays: what stands before other dots tells files of one folder apart.
    return place.with_name(stem(place) + ".scored" + ending)


def columns_told(has_text: bool, top_k: int, entropy: bool, prefix: str = "") -> dict[str, str]:
    """The columns that are added to a file's, by their names there: which one of SCORES each is."""
    told = ["teacher_logprobs"]
    told += ["response_token_ids"] if has_text else []
    told += ["entropy"] if entropy else []
    told += ["top_token_ids", "top_logprobs"] if top_k else []
    return {prefix + name: name for name in told}


def refuse_unwritable(path: str, encoding: str | None, out: Path) -> None:
    """Find what would keep the output from being written, before a teacher is asked for it.

    Raises:
        AskedError: the file's values make no columns, or none that the output's format has, or its parts have
            different ones.
    """
    if out.name.lower().endswith(_LINES):
        return
    first: pa.Schema | None = None
    number = 0
    try:
        with ExitStack() as stack:
            for batch in _batches(path, encoding, out):
                if first is None:
                    first = batch.schema
                    writer = stack.enter_context(_writer(out, pa.MockOutputStream(), first))
                if not batch.schema.equals(first):
                    differs = [str(field) for field in batch.schema if field not in first]
                    raise AskedError(
                        f"{path}: its files have different columns, from row {number + 1} on "
                        f"{', '.join(differs) or 'fewer or in another order'}. Write lines: --out NAME.jsonl"
                    )
                writer.write_batch(batch)
                number += len(batch)
    except pa.ArrowException as error:
        raise AskedError(
            f"{path}: its columns cannot be written as {out.suffix} ({error}). Write lines: --out NAME.jsonl"
        ) from error


def write(
    path: str, encoding: str | None, parts: Parts, count: int, out: Path, told: Mapping[str, str]
) -> None:
    """Write the output, which is there whole or not at all.

    Args:
        path, encoding: of the file.
        count: parts, all of them finished.
        out: where; its ending says the format.
        told: see `columns_told`.

    Raises:
        AskedError: the file's values make no columns.
        PartsError: the file was changed since its parts were begun.
        OSError: it cannot be written.
    """
    remove_unfinished(out.parent, out.name)  # as large as the output, and nobody else writes it
    with whole(out) as unfinished:
        scores = _scores(path, parts, count, told)
        if out.name.lower().endswith(_LINES):
            _write_lines(_rows(path, encoding), scores, unfinished)
        else:
            _write_table(_batches(path, encoding, out), scores, unfinished, out, told)
        parts.refuse_changed(path)


def _write_lines(given: Iterator[dict[str, Any]], scores: Iterator[dict[str, Any]], unfinished: Path) -> None:
    with unfinished.open("w", encoding="utf-8") as stream:
        for row in given:
            stream.write(_line(row | next(scores)) + "\n")


def _write_table(
    given: Iterator[pa.RecordBatch],
    scores: Iterator[dict[str, Any]],
    unfinished: Path,
    out: Path,
    told: Mapping[str, str],
) -> None:
    kinds = [SCORES.field(name).with_name(added) for added, name in told.items()]
    writer: Any = None
    # Opened here: Arrow takes no names that are not UTF-8.
    with unfinished.open("wb") as sink, ExitStack() as stack:
        for batch in given:
            table = pa.Table.from_batches([batch])
            added = pa.Table.from_pylist([next(scores) for _ in range(len(batch))], pa.schema(kinds))
            for kind in kinds:
                table = table.append_column(kind, added.column(kind.name))
            if writer is None:
                writer = stack.enter_context(_writer(out, sink, table.schema))
            writer.write_table(table)


def _writer(out: Path, sink: Any, columns: pa.Schema) -> Any:
    return (pq.ParquetWriter if _is_parquet(out) else pa.ipc.new_file)(sink, columns)


def _is_parquet(out: Path) -> bool:
    return out.name.lower().endswith(".parquet")


def _line(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:  # a number that JSON does not have
        return json.dumps(_finite(row), ensure_ascii=False, default=str)


def _finite(value: Any) -> Any:
    """The same with null for NaN and the infinities."""
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scores(path: str, parts: Parts, count: int, told: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield from parts.scores(number).select(list(told.values())).rename_columns(list(told)).to_pylist()
    raise parts.changed(path)  # who asks for more has more rows than were scored


def _rows(path: str, encoding: str | None) -> Iterator[dict[str, Any]]:
    """Those of a file whose rows were all looked at before."""
    for found in rows(path, encoding=encoding, verbatim=True):
        if not isinstance(found, Row):
            raise AskedError(f"{found.where}: {found.reason}")
        yield dict(found.values)


def _batches(path: str, encoding: str | None, out: Path) -> Iterator[pa.RecordBatch]:
    """The file's own columns, as the output has them; of one without types, as its values are."""
    if is_table(path):
        for batch in table_batches(path):
            yield batch if _is_parquet(out) else _without_dictionaries(batch)
        return
    try:
        # All at once: what is a number in the first rows may be missing in others.
        given = list(_rows(path, encoding))
        names = dict.fromkeys(name for row in given for name in row)
        table = pa.table({name: [row.get(name) for row in given] for name in names})
    except (pa.ArrowException, OverflowError) as error:
        said = str(error).splitlines()[0]
        raise AskedError(
            f"{path}: its values make no columns ({said}). Write lines: --out NAME.jsonl"
        ) from error
    yield from table.to_batches(max_chunksize=_ROWS_AT_A_TIME)


def _without_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With values in place of dictionaries: an Arrow file takes one a column, and batches have their own."""
    columns = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in batch.schema
    ]
    return batch.cast(pa.schema(columns, batch.schema.metadata))
