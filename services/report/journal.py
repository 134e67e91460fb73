"""The record of a run: metrics, evaluations, TensorBoard events, sampled experience, in the run's folder."""

import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from rlad_core.config.settings import TrackerName
from rlad_core.evaluation import EvaluationRow
from rlad_core.schema import to_ipc, to_parquet
from services.experience.visits import Visit
from services.report.answers import ANSWERS, answers_name, when_of
from services.report.ledger import Ledger
from services.report.trackers import CLOSE_S, finish, trackers

METRICS, EVALUATIONS, GROUPS = "metrics.jsonl", "evaluation.jsonl", "groups.jsonl"

News = tuple[Literal["begun", "step", "evaluation", "note"], Any]
"""What the journal was told: the first step, a row of metrics.jsonl or evaluation.jsonl, a sentence."""


class Journal:
    """Actor that writes the record; the learner tells it, the command line asks it.

    Every line is written whole and flushed, so a killed run leaves a readable record.

    Args:
        run_dir: the run's folder.
        names: of trackers that are told too.
        project: as they call it.
    """

    def __init__(self, run_dir: str, names: Sequence[TrackerName] = (), project: str = "rlad") -> None:
        self._dir = Path(run_dir)
        self._told: list[News] = []
        self._events: EventFileWriter | None = None
        self._begun = 0
        self._given_up: tuple[str, str] | None = None
        self._trackers = trackers(names, project, self._dir.name, self._dir, self.note)

    def begin(self, first_step: int) -> int:
        """The run starts or continues with this step; nothing is recorded before. Once more where the learner
        was lost and begins anew.

        What was written of this step and later ones belongs to a lost attempt and goes.

        Returns:
            How often it was called.

        Raises:
            ValueError: a file of the record is broken elsewhere than in its last line.
        """
        self._close_files()
        self._begun += 1
        self._ledger = Ledger(self._dir)
        self._ledger.begin(first_step)
        keep_before(self._dir, first_step)
        self._events = EventFileWriter(str(self._dir / "tensorboard"))
        self._restart_tensorboard(first_step)
        self._told.append(("begun", first_step))
        return self._begun

    def give_up(self, said: str, whole: str) -> None:
        """A rank failed with what a new one would fail with too; the first one counts.

        Args:
            said: for people.
            whole: with all stacks.
        """
        self._given_up = self._given_up or (said, whole)

    def given_up(self) -> tuple[str, str] | None:
        """What `give_up` was told; None: nothing."""
        return self._given_up

    def step(
        self,
        row: dict[str, Any],
        trained: list[str],
        dropped: list[str],
        visits: Sequence[Visit] = (),
        stale_masked: dict[str, int] | None = None,
    ) -> None:
        """A finished step: its metrics, the groups it trained on or dropped, and their lives.

        Args:
            stale_masked: tokens too old to count, by the group's id; None in a run without staleness.
        """
        self._ledger.step(row["step"], visits)
        _append(self._dir / METRICS, row)
        groups: dict[str, Any] = {"step": row["step"], "trained": trained, "dropped": dropped}
        if stale_masked is not None:
            groups["stale_masked"] = stale_masked
        _append(self._dir / GROUPS, groups)
        self._show(row, row["step"])
        self._told.append(("step", row))

    def evaluation(
        self, when: str, step: int, rows: list[EvaluationRow], answers: pa.Table | None = None
    ) -> None:
        """Accuracy per subset: `when` is before, after or step.

        Args:
            answers: ANSWERS that it was measured on.
        """
        if answers is not None:
            folder = self._dir / ANSWERS
            folder.mkdir(exist_ok=True)
            file = folder / answers_name(when, step)
            unfinished = file.with_suffix(".new")
            to_parquet(answers, unfinished)
            os.replace(unfinished, file)
        records = [{"step": step, "when": when, **_flat(row)} for row in rows]
        # All at once: with the first of the last evaluation the run is over for whoever reads.
        _append(self._dir / EVALUATIONS, *records)
        for record in records:
            self._told.append(("evaluation", record))
            self._show_accuracy(record)

    def note(self, text: str) -> None:
        """A sentence for whoever watches."""
        self._told.append(("note", text))

    def sample(self, step: int, table: pa.Table) -> None:
        """Keep some experience as an Arrow IPC stream."""
        folder = self._dir / "experience"
        folder.mkdir(exist_ok=True)
        (folder / f"step-{step:06d}.arrows").write_bytes(to_ipc(table))

    def news(self, seen: int) -> list[News]:
        """What was told after the first so many, in its order."""
        return self._told[seen:]

    def close(self, limit_s: float = CLOSE_S) -> list[str]:
        """Write out what is buffered.

        Args:
            limit_s: for all trackers together.

        Returns:
            What was noted meanwhile: whoever watched may be gone.
        """
        self._close_files()
        told = len(self._told)
        if late := finish(self._trackers, limit_s):
            self.note(
                f"{', '.join(late)} did not finish within {limit_s:g} s: what was not written by then may be "
                "missing there"
            )
        return [text for _, text in self._told[told:]]

    def _close_files(self) -> None:
        if self._events is not None:
            self._events.close()
            self._ledger.close()

    def _restart_tensorboard(self, first_step: int) -> None:
        """Have TensorBoard forget what earlier event files hold of `first_step` and later ones."""
        start = SessionLog(status=SessionLog.START)
        assert self._events is not None
        self._events.add_event(Event(wall_time=time.time(), step=first_step, session_log=start))
        # An evaluation counts the steps before it, so one at the checkpoint itself is still valid.
        for record in _rows(self._dir / EVALUATIONS):
            if record["step"] == first_step:
                self._show_accuracy(record)
        self._events.flush()

    def _show_accuracy(self, record: dict[str, Any]) -> None:
        self._show({f"evaluation/{record['subset']}": record["accuracy"]}, record["step"])

    def _show(self, row: dict[str, Any], step: int) -> None:
        """Tell TensorBoard and the trackers."""
        numbers = {name: float(value) for name, value in _numbers(row) if math.isfinite(value)}
        for tracker in self._trackers:
            tracker.log(numbers, step)
        assert self._events is not None
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._events.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self._events.flush()


def _numbers(row: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and (prefix or name != "step"):
            found.append((f"{prefix}{name}", float(value)))
    return found


def _flat(row: EvaluationRow) -> dict[str, Any]:
    total = row.prompts * row.samples
    return {
        "subset": row.subset,
        "correct": round(row.accuracy * total),
        "total": total,
        "accuracy": row.accuracy,
        "low": row.interval.low,
        "high": row.interval.high,
        "truncated": row.truncated,
        "format_errors": row.format_errors,
        "pass_at": {str(k): share.value for k, share in row.pass_at.items()},
        "samples": row.samples,
        "pass_at_k": row.pass_at_k,
        "k": row.k,
        "reward": row.reward,
    }


def _append(path: Path, *rows: dict[str, Any]) -> None:
    lines = "".join(json.dumps(_without_nan(row), allow_nan=False) + "\n" for row in rows)
    with path.open("a") as file:
        file.write(lines)


def _without_nan(row: dict[str, Any]) -> dict[str, Any]:
    """JSON knows no NaN, which is what a mean over nothing is: such numbers become null."""
    return {
        name: _without_nan(value)
        if isinstance(value, dict)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in row.items()
    }


def _counts(step: int, when: str | None, first_step: int) -> bool:
    """Whether what was recorded of a step stays where the run begins anew with `first_step`.

    An evaluation at the end of the step before does: the resumed run does not measure it again.
    """
    return step < first_step or (step == first_step and when == "step")


def keep_before(run_dir: Path, first_step: int) -> None:
    """Take away what the files of a run's folder tell of this step and later ones.

    Raises:
        ValueError: one is broken elsewhere than in its last line.
    """
    for name in (METRICS, GROUPS, EVALUATIONS):
        _keep_rows_before(run_dir / name, first_step)
    for sample in (run_dir / "experience").glob("step-*.arrows"):
        if int(sample.stem.removeprefix("step-")) >= first_step:
            sample.unlink()
    for answers in (run_dir / ANSWERS).glob("*.parquet"):
        when, step = when_of(answers)
        if not _counts(step, when, first_step):
            answers.unlink()


def lengthen(run_dir: Path, done: int) -> None:
    """The run was over after so many steps, and has more now: what was measured at its end is an evaluation
    on the way, and stays.

    Raises:
        ValueError: the file of evaluations is broken elsewhere than in its last line.
    """
    file = run_dir / EVALUATIONS
    rows = _rows(file)
    last = [row for row in rows if (row.get("when"), row.get("step")) == ("after", done)]
    if not last or any((row.get("when"), row.get("step")) == ("step", done) for row in rows):
        return
    answers = run_dir / ANSWERS / answers_name("after", done)
    if answers.is_file():
        answers.rename(answers.with_name(answers_name("step", done)))
    for row in last:
        row["when"] = "step"
    _rewrite(file, rows)


def _keep_rows_before(path: Path, step: int) -> None:
    """Drop rows of `step` and later ones, and a last line that was cut off by a kill."""
    if path.exists():
        _rewrite(path, [row for row in _rows(path) if _counts(row["step"], row.get("when"), step)])


def _rewrite(path: Path, kept: Sequence[dict[str, Any]]) -> None:
    # In one move, so that a kill in between cannot lose the record.
    fresh = path.with_suffix(".new")
    fresh.write_text("".join(f"{json.dumps(row)}\n" for row in kept))
    os.replace(fresh, path)


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines()
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(
                    f"line {number} of {path} is broken ({error}); repair or delete it to resume the run"
                ) from error
    return rows
