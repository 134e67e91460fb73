"""The output: each row of the file as it was, with what the teacher told of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.data import Row, is_table, rows, stem, table_batches
from services.score.asked import AskedError
from services.score.parts import Parts
from services.score.scoring import SCORES

FORMATS = (".parquet", ".arrow", ".feather", ".jsonl", ".ndjson")
_LINES = (".jsonl", ".ndjson")
_ROWS_AT_A_TIME = 1024


def default_out(path: str) -> Path:
    """Beside a file: its name with ``.scored``, in its own format where that can be written."""
    place = Path(path)
    ending = next((each for each in FORMATS if place.name.lower().endswith(each)), ".jsonl")
    # The rest of the name stays: what stands before other dots tells files of one folder apart.
    return place.with_name(stem(place) + ".scored" + ending)


def columns_told(has_text: bool, top_k: int, entropy: bool) -> list[str]:
    """The columns that are added to a file's."""
    told = ["teacher_logprobs"]
    told += ["response_token_ids"] if has_text else []
    told += ["entropy"] if entropy else []
    return told + (["top_token_ids", "top_logprobs"] if top_k else [])


def refuse_unwritable(path: str, encoding: str | None, out: Path) -> None:
    """Find what would keep the output from being written, before anything is asked for it.

    Raises:
        AskedError: the file's values make no columns, or none that the output's format has, or its parts have
            different ones.
    """
    if out.name.lower().endswith(_LINES):
        return
    first: pa.Schema | None = None
    number = 0
    for batch in _batches(path, encoding):
        if first is None:
            first = batch.schema
            try:
                with _writer(out, pa.BufferOutputStream(), first) as writer:
                    writer.write_batch(batch.slice(0, 1))
            except pa.ArrowException as error:
                raise AskedError(
                    f"{path}: its columns cannot be written as {out.suffix} ({error}). Write lines: "
                    "--out NAME.jsonl"
                ) from error
        if not batch.schema.equals(first):
            differs = [str(field) for field in batch.schema if field not in first]
            raise AskedError(
                f"{path}: its files have different columns, from row {number + 1} on "
                f"{', '.join(differs) or 'fewer or in another order'}. Write lines: --out NAME.jsonl"
            )
        number += len(batch)


def write(path: str, encoding: str | None, parts: Parts, count: int, out: Path, told: Sequence[str]) -> None:
    """Write the output, which is there whole or not at all.

    Args:
        path, encoding: of the file.
        count: parts, all of them finished.
        out: where; its ending says the format.
        told: see `columns_told`.

    Raises:
        AskedError: the file's values make no columns.
        OSError: it cannot be written.
    """
    unfinished = out.with_name(f".{out.name}.unfinished")
    scores = _scores(parts, count, told)
    if out.name.lower().endswith(_LINES):
        with unfinished.open("w", encoding="utf-8") as stream:
            for row in _rows(path, encoding):
                row |= next(scores)
                stream.write(_line(row) + "\n")
    else:
        with ExitStack() as stack:
            writer: Any = None
            for batch in _batches(path, encoding):
                table = pa.Table.from_batches([batch])
                added = pa.Table.from_pylist(
                    [next(scores) for _ in range(len(batch))],
                    pa.schema([SCORES.field(name) for name in told]),
                )
                for name in told:
                    table = table.append_column(SCORES.field(name), added.column(name))
                if writer is None:
                    writer = stack.enter_context(_writer(out, str(unfinished), table.schema))
                writer.write_table(table)
    unfinished.replace(out)


def _writer(out: Path, sink: Any, columns: pa.Schema) -> Any:
    make = pq.ParquetWriter if out.name.lower().endswith(".parquet") else pa.ipc.new_file
    return make(sink, columns)


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


def _scores(parts: Parts, count: int, told: Sequence[str]) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield from parts.scores(number).select(list(told)).to_pylist()


def _rows(path: str, encoding: str | None) -> Iterator[dict[str, Any]]:
    """Those of a file whose rows were all looked at before."""
    for found in rows(path, encoding=encoding):
        if not isinstance(found, Row):
            raise AskedError(f"{found.where}: {found.reason}")
        yield dict(found.values)


def _batches(path: str, encoding: str | None) -> Iterator[pa.RecordBatch]:
    """The file's own columns; of one without types, as its values are."""
    if is_table(path):
        yield from table_batches(path)
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
