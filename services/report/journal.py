"""The record of a run: metrics, evaluations, TensorBoard events, sampled experience, in the run's folder."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from rlad_core.config.telling import TrackerName
from rlad_core.evaluation import EvaluationRow
from rlad_core.schema import to_ipc, to_parquet
from services.base.whole_files import whole, write_whole
from services.experience.visits import Visit
from services.report.answers import ANSWERS, answers_name
from services.report.ledger import Ledger
from services.report.record_lines import EVALUATIONS, GROUPS, METRICS, STAGE_ENDS, append, read_record
from services.report.stage_ends import stage_end_said
from services.report.taking_back import keep_before
from services.report.trackers import CLOSE_S, finish, trackers

News = tuple[Literal["begun", "step", "evaluation", "note"], Any]
"""What the journal was told: the first step, a row of metrics.jsonl or evaluation.jsonl, a sentence."""


@dataclass(frozen=True)
class _Files:
    """What is open from a beginning on."""

    ledger: Ledger
    events: EventFileWriter

    def close(self) -> None:
        self.events.close()
        self.ledger.close()


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
        self._open: _Files | None = None
        self._begun = 0
        self._stage = ""
        self._given_up: tuple[str, str] | None = None
        self._trackers = trackers(names, project, self._dir.name, self._dir, self.note)

    def begin(self, first_step: int) -> int:
        """The run starts or continues with this step; nothing is recorded before. Once more where the learner
        was lost and begins anew.

        What was written of this step and later ones belongs to a lost attempt and goes.

        Returns:
            How often it was called.

        Raises:
            LinesError: a file of the record is broken elsewhere than in a last line that was cut off.
        """
        self._close_files()
        self._begun += 1
        ledger = Ledger(self._dir)
        ledger.begin(first_step)
        keep_before(self._dir, first_step)
        self._open = _Files(ledger, EventFileWriter(str(self._dir / "tensorboard")))
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
        self._files.ledger.step(row["step"], visits)
        append(self._dir / METRICS, row)
        self._stage = row.get("stage", "")
        groups: dict[str, Any] = {"step": row["step"], "trained": trained, "dropped": dropped}
        if stale_masked is not None:
            groups["stale_masked"] = stale_masked
        append(self._dir / GROUPS, groups)
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
            with whole(folder / answers_name(when, step)) as unfinished:
                to_parquet(answers, unfinished)
        records = [{"step": step, "when": when, **_flat(row)} for row in rows]
        # All at once: with the first of the last evaluation the run is over for whoever reads.
        append(self._dir / EVALUATIONS, *records)
        for record in records:
            self._told.append(("evaluation", record))
            self._show_accuracy(record)

    def note(self, text: str) -> None:
        """A sentence for whoever watches."""
        self._told.append(("note", text))

    def stage_end(self, step: int, why: str) -> None:
        """A rule ended the stage of the step that was told last; whoever watches is told too.

        Args:
            why: as `StageRules.after` says it.
        """
        row = {"step": step, "stage": self._stage, "why": why}
        append(self._dir / STAGE_ENDS, row)
        self.note(stage_end_said(row))

    def sample(self, step: int, table: pa.Table) -> None:
        """Keep some experience as an Arrow IPC stream."""
        folder = self._dir / "experience"
        folder.mkdir(exist_ok=True)
        write_whole(folder / f"step-{step:06d}.arrows", to_ipc(table))

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

    @property
    def _files(self) -> _Files:
        if self._open is None:
            raise RuntimeError("the record is not open: it is from `begin` to `close`")
        return self._open

    def _close_files(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _restart_tensorboard(self, first_step: int) -> None:
        """Have TensorBoard forget what earlier event files hold of `first_step` and later ones."""
        start = SessionLog(status=SessionLog.START)
        self._files.events.add_event(Event(wall_time=time.time(), step=first_step, session_log=start))
        # An evaluation counts the steps before it, so one at the checkpoint itself is still valid.
        for record in read_record(self._dir / EVALUATIONS).rows:
            if record["step"] == first_step:
                self._show_accuracy(record)
        self._files.events.flush()

    def _show_accuracy(self, record: dict[str, Any]) -> None:
        self._show({f"evaluation/{record['subset']}": record["accuracy"]}, record["step"])

    def _show(self, row: dict[str, Any], step: int) -> None:
        """Tell TensorBoard and the trackers."""
        events = self._files.events
        numbers = {name: float(value) for name, value in _numbers(row) if math.isfinite(value)}
        for tracker in self._trackers:
            tracker.log(numbers, step)
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        events.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        events.flush()


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
