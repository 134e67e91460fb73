"""The record of a run: metrics, evaluations, TensorBoard events and sampled experience, in the run's folder."""

import json
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from rlad_core.evaluation import EvaluationRow
from rlad_core.schema import to_ipc

METRICS, EVALUATIONS, GROUPS = "metrics.jsonl", "evaluation.jsonl", "groups.jsonl"


class Journal:
    """Actor that writes the record; the learner tells it, the command line asks it.

    Every line is written whole and flushed, so a killed run leaves a readable record.

    Args:
        run_dir: the run's folder.
        first_step: where the run starts or continues; rows of later steps belong to a lost attempt and go.
    """

    def __init__(self, run_dir: str, first_step: int) -> None:
        self._dir = Path(run_dir)
        for name in (METRICS, GROUPS, EVALUATIONS):
            _keep_before(self._dir / name, first_step)
        self._events = EventFileWriter(str(self._dir / "tensorboard"))
        self._steps: list[dict[str, Any]] = []
        self._evaluations: list[dict[str, Any]] = []
        self._notes: list[str] = []

    def step(self, row: dict[str, Any], trained: list[str], dropped: list[str]) -> None:
        """A finished step: its metrics, and the groups it trained on or dropped."""
        _append(self._dir / METRICS, row)
        _append(self._dir / GROUPS, {"step": row["step"], "trained": trained, "dropped": dropped})
        self._tensorboard(row, row["step"])
        self._steps.append(row)

    def evaluation(self, when: str, step: int, rows: list[EvaluationRow]) -> None:
        """Accuracy per subset: `when` is before, after or step."""
        for row in rows:
            record = {"step": step, "when": when, **_flat(row)}
            _append(self._dir / EVALUATIONS, record)
            self._evaluations.append(record)
            self._tensorboard({f"evaluation/{row.subset}": row.accuracy}, step)

    def note(self, text: str) -> None:
        """A sentence for whoever watches."""
        self._notes.append(text)

    def sample(self, step: int, table: pa.Table) -> None:
        """Keep some experience as an Arrow IPC stream."""
        folder = self._dir / "experience"
        folder.mkdir(exist_ok=True)
        (folder / f"step-{step:06d}.arrows").write_bytes(to_ipc(table))

    def news(self, steps: int, evaluations: int, notes: int) -> dict[str, list[Any]]:
        """What came after the first so many of each."""
        return {
            "steps": self._steps[steps:],
            "evaluations": self._evaluations[evaluations:],
            "notes": self._notes[notes:],
        }

    def close(self) -> None:
        """Write out what is buffered."""
        self._events.close()

    def _tensorboard(self, numbers: dict[str, Any], step: int) -> None:
        values = [
            Summary.Value(tag=name, simple_value=float(value))
            for name, value in _numbers(numbers)
            if math.isfinite(value)
        ]
        self._events.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self._events.flush()


def _numbers(row: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, dict):
            found += _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            found.append((f"{prefix}{name}", float(value)))
    return found


def _flat(row: EvaluationRow) -> dict[str, Any]:
    total = row.puzzles * row.samples
    return {
        "subset": row.subset,
        "correct": round(row.accuracy * total),
        "total": total,
        "accuracy": row.accuracy,
        "low": row.interval.low,
        "high": row.interval.high,
        "truncated": row.truncated,
        **{name: value for name, value in asdict(row).items() if name in ("samples", "pass_at_k", "k")},
    }


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def _keep_before(path: Path, step: int) -> None:
    """Drop rows of `step` and later ones, and a last line that was cut off by a kill."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if row["step"] < step or (row["step"] == step and row.get("when") in ("before", "step")):
            kept.append(line)
    path.write_text("".join(f"{line}\n" for line in kept))
