"""A comparison's finished runs as small files: to keep with a project, and to go on with on another machine.

FOLDER/suite.yaml
FOLDER/runs/NAME/recipe.yaml          of each finished run, also below FOLDER/tuning/
FOLDER/runs/NAME/metrics.jsonl        all numbers of each step, to five digits
FOLDER/runs/NAME/evaluation.jsonl     also the mean reward of each evaluation, which verdicts do not tell
FOLDER/runs/NAME/stage_ends.jsonl     of one with stages that a rule ended
FOLDER/runs/NAME/verdicts.parquet     which problems were solved, at each evaluation
FOLDER/runs/NAME/prompts.json         how many prompts were used, and their hash
FOLDER/runs/NAME/diverged.json        of one that diverged

What lies beside the suite's own recipe is named relative to it (`services.compare.moved`), so that a
comparison goes on wherever both are. Some 100 KB a run. Responses, checkpoints, weights and logs stay behind,
so no packed run can be resumed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rlad_core.config.yaml_text import dump_values, parse
from rlad_core.prompt_checks.record import USED
from services.base.whole_files import whole, write_whole
from services.compare.members import Member
from services.compare.moved import home_of, relative
from services.compare.verdicts import VERDICTS, Evaluation, evaluations_in
from services.report.record_lines import EVALUATIONS, METRICS, STAGE_ENDS, rewrite
from services.report.records import RunRecord
from services.run import own_code
from services.run.divergence import DIVERGED, has_diverged

RECIPE = "recipe.yaml"
_DIGITS = 5


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
        record = member.record()
        if record is None or not member.is_finished():
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
    if evaluations := evaluations_in(record.folder):
        _pack(record, evaluations, home, to)
    return bool(evaluations)


def _pack(record: RunRecord, evaluations: Sequence[Evaluation], home: Path | None, to: Path) -> None:
    """The recipe comes last, with which it is a run: what a kill leaves before is none yet."""
    run = record.folder
    to.mkdir(parents=True, exist_ok=True)
    tables = [
        rows.append_column("when", pa.array([when] * len(rows))).append_column(
            "step", pa.array([step] * len(rows), pa.int32())
        )
        for when, step, rows in evaluations
    ]
    with whole(to / VERDICTS) as unfinished:
        pq.write_table(pa.concat_tables(tables), unfinished, compression="zstd")
    rewrite(to / METRICS, [_rounded(row) for row in record.steps])
    rewrite(to / EVALUATIONS, record.evaluations)
    if record.stage_ends:
        rewrite(to / STAGE_ENDS, record.stage_ends)
    recipe: Any = relative(parse((run / RECIPE).read_text(encoding="utf-8")), home)
    recipe["name"] = to.name
    recipe.setdefault("output", {})["dir"] = to.parent.name  # else a path of the machine that it ran on
    if (run / own_code.FOLDER).is_dir():
        shutil.copytree(run / own_code.FOLDER, to / own_code.FOLDER, dirs_exist_ok=True)
        own_code.rename(to, lambda path: relative(path, home))
    if (run / USED).is_file():
        shutil.copyfile(run / USED, to / USED)
    if has_diverged(run):
        shutil.copyfile(run / DIVERGED, to / DIVERGED)
    write_whole(to / RECIPE, dump_values(recipe))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
