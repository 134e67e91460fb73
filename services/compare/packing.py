"""A comparison's finished runs as small files: to keep with a project, and to go on with on another machine.

FOLDER/suite.yaml
FOLDER/runs/NAME/recipe.yaml          of each finished run, also below FOLDER/tuning/
FOLDER/runs/NAME/metrics.jsonl        all numbers of each step, to five digits
FOLDER/runs/NAME/evaluation.jsonl     also the mean reward of each evaluation, which verdicts do not tell
FOLDER/runs/NAME/verdicts.parquet     which problems were solved, at each evaluation

What lies beside the suite's own recipe is named relative to it (`services.compare.moved`), so that a
comparison goes on wherever both are. Some 100 KB a run. Responses, checkpoints, weights and logs stay behind,
so no packed run can be resumed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from rlad_core.config import parse
from rlad_core.evaluation import Verdicts, verdicts_of
from rlad_core.schema import SchemaError
from services.compare.members import Member
from services.compare.moved import home_of, relative
from services.report.answers import kept_in
from services.report.journal import EVALUATIONS, METRICS
from services.report.records import RunRecord
from services.run import own_code
from services.run.following import is_over

RECIPE, VERDICTS = "recipe.yaml", "verdicts.parquet"
_WHENS = ("before", "step", "after")
_COLUMNS = ("subset", "prompt_id", "sample_index", "correct")
_DIGITS = 5

_Evaluation = tuple[str, int, pa.Table]


def verdicts_in(folder: Path) -> tuple[tuple[int, Verdicts], ...]:
    """What a run's evaluations found, packed or not: steps done -> verdicts, the last at the end.

    Raises:
        SchemaError: a file is broken; names it.
    """
    return tuple((step, verdicts_of(rows)) for _, step, rows in _evaluations(folder))


def pack(members: Iterable[Member], to: Path) -> list[str]:
    """Write what the report needs of finished runs, over what is there of them.

    Args:
        members: of the report, and tries.
        to: folder of the packed comparison.

    Returns:
        Names of those that are finished.
    """
    done = []
    for member in members:
        if (record := member.record()) is None or not is_over(record):
            continue
        if pack_run(record, home_of(member.recipe), to / member.where.name / member.name):
            done.append(member.name)
    return done


def pack_run(record: RunRecord, home: Path | None, to: Path) -> bool:
    """Write what the report needs of one finished run.

    Args:
        home: of its recipe, see `home_of`.
        to: the run's folder there, whose name becomes the run's.

    Returns:
        False, and nothing is written, where it has no verdicts: it would be finished and in no report.

    Raises:
        SchemaError: a file of the run is broken; names it.
        OSError: it cannot be written.
    """
    if evaluations := _evaluations(record.folder):
        _pack(record, evaluations, home, to)
    return bool(evaluations)


def is_packed(run: Path) -> bool:
    """Whether the folder of a run holds what `pack` leaves."""
    return (run / VERDICTS).is_file()


def _pack(record: RunRecord, evaluations: Sequence[_Evaluation], home: Path | None, to: Path) -> None:
    run = record.folder
    to.mkdir(parents=True, exist_ok=True)
    recipe: Any = relative(parse((run / RECIPE).read_text(encoding="utf-8")), home)
    recipe["name"] = to.name
    recipe.setdefault("output", {})["dir"] = to.parent.name  # else a path of the machine that it ran on
    (to / RECIPE).write_text(yaml.safe_dump(recipe, sort_keys=False, width=110), encoding="utf-8")
    _write_lines(to / METRICS, [_rounded(row) for row in record.steps])
    _write_lines(to / EVALUATIONS, record.evaluations)
    if (run / own_code.FOLDER).is_dir():
        shutil.copytree(run / own_code.FOLDER, to / own_code.FOLDER, dirs_exist_ok=True)
        own_code.rename(to, lambda path: relative(path, home))
    tables = [
        rows.append_column("when", pa.array([when] * len(rows))).append_column(
            "step", pa.array([step] * len(rows), pa.int32())
        )
        for when, step, rows in evaluations
    ]
    pq.write_table(pa.concat_tables(tables), to / VERDICTS, compression="zstd")


def _evaluations(folder: Path) -> list[_Evaluation]:
    """When, steps done, and the verdicts of each evaluation, in their order."""
    packed = folder / VERDICTS
    if not is_packed(folder):
        kept = [each for each in kept_in(folder) if each.when in _WHENS]
        return [(each.when, each.step, each.read().select(list(_COLUMNS))) for each in kept]
    try:
        table = pq.read_table(packed)
    except pa.ArrowInvalid as error:
        raise SchemaError(f"{packed}: {error}") from error
    found = []
    for when, step in dict.fromkeys(zip(table["when"].to_pylist(), table["step"].to_pylist(), strict=True)):
        here = pc.and_(pc.equal(table["when"], when), pc.equal(table["step"], step))
        found.append((when, step, table.filter(here).select(list(_COLUMNS))))
    return found


def _write_lines(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
