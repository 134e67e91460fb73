"""Which problems a run solved at each of its evaluations, packed or not.

RUN/verdicts.parquet     of a packed run: when, step, and the columns below
RUN/evaluations/         of a whole one: the responses themselves
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from rlad_core.evaluation import Verdicts, verdicts_of
from rlad_core.schema import SchemaError, from_parquet
from services.report.answers import kept_in

VERDICTS = "verdicts.parquet"
_WHENS = ("before", "step", "after")
_COLUMNS = ("subset", "prompt_id", "sample_index", "correct")

Evaluation = tuple[str, int, pa.Table]
"""When, steps done, and a row a response."""


def is_packed(run: Path) -> bool:
    """Whether the folder of a run holds what packing leaves."""
    return (run / VERDICTS).is_file()


def are_kept(run: Path) -> bool:
    """Whether the verdicts after the last step are there, without which a run is in no report."""
    return is_packed(run) or any(each.when == _WHENS[-1] for each in kept_in(run))


def verdicts_in(run: Path) -> tuple[tuple[int, Verdicts], ...]:
    """What the evaluations of a finished run found: steps done -> verdicts, the last at the end.

    Raises:
        SchemaError: a file is broken, or tells nothing of the last evaluation; names it.
    """
    found = evaluations_in(run)
    if not found or found[-1][0] != _WHENS[-1] or not len(found[-1][2]):
        raise SchemaError(f"{run} has no responses of the evaluation after its last step")
    return tuple((step, verdicts_of(rows)) for _, step, rows in found)


def evaluations_in(run: Path) -> list[Evaluation]:
    """All evaluations of a run, in their order.

    Raises:
        SchemaError: a file is broken; names it.
    """
    if not is_packed(run):
        return [
            (each.when, each.step, _columns(each.read(), *_COLUMNS, file=each.files[0]))
            for each in kept_in(run)
            if each.when in _WHENS
        ]
    table = _columns(from_parquet(run / VERDICTS), "when", "step", *_COLUMNS, file=run / VERDICTS)
    found = []
    for when, step in dict.fromkeys(zip(table["when"].to_pylist(), table["step"].to_pylist(), strict=True)):
        here = pc.and_(pc.equal(table["when"], when), pc.equal(table["step"], step))
        found.append((when, step, table.filter(here).select(list(_COLUMNS))))
    return found


def _columns(table: pa.Table, *names: str, file: Path) -> pa.Table:
    if absent := [name for name in names if name not in table.column_names]:
        raise SchemaError(f"{file} has no column {', '.join(absent)}")
    return table.select(list(names))
