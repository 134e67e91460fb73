"""What a run's record keeps where the run goes on from a checkpoint: nothing of what came after it."""

from __future__ import annotations

from pathlib import Path

from services.report.answers import ANSWERS, answers_in, answers_name, experience_in
from services.report.record_lines import EVALUATIONS, GROUPS, METRICS, STAGE_ENDS, read_record, rewrite

_FILES = (METRICS, GROUPS, EVALUATIONS, STAGE_ENDS)


def check_record(run_dir: Path) -> None:
    """Look whether the run can go on with its record.

    Raises:
        LinesError: a line is broken, other than a last one that was cut off.
    """
    for name in _FILES:
        read_record(run_dir / name)


def keep_before(run_dir: Path, first_step: int) -> None:
    """Take away what a run's folder tells of this step and later ones, and last lines that were cut off.

    Raises:
        LinesError: one is broken elsewhere.
    """
    for name in _FILES:
        if (file := run_dir / name).exists():
            rows = read_record(file).rows
            rewrite(file, [row for row in rows if _counts(row["step"], row.get("when"), first_step)])
    for sample, step in experience_in(run_dir):
        if step >= first_step:
            sample.unlink()
    for answers, when, step in answers_in(run_dir):
        if not _counts(step, when, first_step):
            answers.unlink()


def lengthen(run_dir: Path, done: int) -> None:
    """The run was over after so many steps, and has more now: what was measured at its end is an evaluation
    on the way, and stays.

    Raises:
        LinesError: the file of evaluations is broken elsewhere than in a last line that was cut off.
    """
    file = run_dir / EVALUATIONS
    rows = read_record(file).rows
    last = [row for row in rows if (row.get("when"), row["step"]) == ("after", done)]
    if not last or any((row.get("when"), row["step"]) == ("step", done) for row in rows):
        return
    answers = run_dir / ANSWERS / answers_name("after", done)
    if answers.is_file():
        answers.rename(answers.with_name(answers_name("step", done)))
    for row in last:
        row["when"] = "step"
    rewrite(file, rows)


def _counts(step: int, when: str | None, first_step: int) -> bool:
    """Whether what was recorded of a step stays where the run begins anew with `first_step`.

    An evaluation at the end of the step before does: the resumed run does not measure it again.
    """
    return step < first_step or (step == first_step and when == "step")
