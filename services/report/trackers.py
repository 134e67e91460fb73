"""Experiment trackers beside TensorBoard: W&B, MLflow and Trackio, where a recipe names them and they are
installed.

A tracker works in a thread of its own, behind a bounded queue: what it takes, and that it fails, never
reaches the run. What it fails to take is missing there, with a sentence about the first time. One that
cannot be made, or takes nothing any more, is left alone from then on, with one sentence about it. At the end
all of them together are waited for no longer than `CLOSE_S`.
"""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from rlad_core.config.telling import TrackerName
from services.base.own_names import own_name

NAMED = "tracked_as"
"""File of a run's folder: what trackers call the run."""
_MOST_WAITING = 1000
"""Rows that wait for a tracker; more are left out, with a word."""
_MOST_FAILED = 10
"""Rows in a row; a server that is away for a while does not end it."""
CLOSE_S = 20.0
"""For all of them together: well below what a run waits for its journal to close."""


class Tracker(Protocol):
    """What is told of a run."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Numbers of a step."""

    def finish(self) -> None:
        """The run is over, or goes on later."""


class WandbTracker:
    """Weights & Biases; WANDB_MODE, WANDB_API_KEY and the like are its own."""

    def __init__(self, project: str, run: str, folder: Path) -> None:
        import wandb

        self._run = wandb.init(project=project, name=run, id=run, resume="allow", dir=str(folder))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._run.log(dict(numbers), step=step)

    def finish(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class MlflowTracker:
    """MLflow; where MLFLOW_TRACKING_URI names no server, its files lie in the run's folder."""

    def __init__(self, project: str, run: str, folder: Path) -> None:
        import mlflow

        if "MLFLOW_TRACKING_URI" not in os.environ:
            mlflow.set_tracking_uri(f"sqlite:///{folder.absolute()}/mlflow.db")
        self._client = mlflow.MlflowClient()
        experiment = self._experiment(project)
        there = self._client.search_runs([experiment], f"attributes.run_name = '{run}'", max_results=1)
        made = there[0] if there else self._client.create_run(experiment, run_name=run)
        self._id = made.info.run_id
        if there:  # `finish` has told that it was over
            self._client.update_run(self._id, status="RUNNING")

    def _experiment(self, project: str) -> str:
        """The id of the project's, which other runs may make at the same moment."""
        if found := self._client.get_experiment_by_name(project):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(project))
        except Exception:  # of whatever kind a server's is: told below unless another run was first
            if found := self._client.get_experiment_by_name(project):
                return str(found.experiment_id)
            raise

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(name, value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics)

    def finish(self) -> None:
        """See `Tracker`."""
        self._client.set_terminated(self._id)


class TrackioTracker:
    """Trackio; TRACKIO_DIR and its spaces are its own."""

    def __init__(self, project: str, run: str, folder: Path) -> None:
        import trackio

        self._trackio = trackio
        trackio.init(
            project=project, name=run, resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False
        )

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """See `Tracker`."""
        self._trackio.log(dict(numbers), step=step)

    def finish(self) -> None:
        """See `Tracker`."""
        self._trackio.finish()


MAKERS: dict[TrackerName, Callable[[str, str, Path], Tracker]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}


class Aside:
    """A tracker in a thread of its own.

    Args:
        name: of the tracker.
        make: makes it; may fail, and take long.
        say: takes a sentence for whoever watches the run.

    Attributes:
        name: the same.
    """

    def __init__(self, name: str, make: Callable[[], Tracker], say: Callable[[str], None]) -> None:
        self.name, self._make, self._say = name, make, say
        # Without a bound of its own, so that the end can be told at once; `log` keeps it.
        self._rows: queue.SimpleQueue[tuple[dict[str, float], int] | None] = queue.SimpleQueue()
        self._failed = self._left_out = self._has_missed = False
        self._failures = 0
        """Since the last row that was taken."""
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Have it told, when it comes to it."""
        if self._failed:
            return
        if self._rows.qsize() < _MOST_WAITING:
            self._rows.put((dict(numbers), step))
            return
        if not self._left_out:
            self._say(f"{self.name} is slower than the run: what it has no time for is left out there")
        self._left_out = True

    def end(self) -> None:
        """Have it finish when it has written what it has."""
        self._rows.put(None)

    def has_ended(self, limit_s: float) -> bool:
        """Whether it has finished, or was given up, within so long; one that has is not waited for."""
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            tracker = self._make()
            while (row := self._rows.get()) is not None:
                self._tell(tracker, *row)
            tracker.finish()
        except ImportError as error:
            self._give_up(f"is not installed ({error}): pip install {self.name}")
        except BaseException as error:  # noqa: BLE001 - whatever it is, SystemExit too, the run goes on
            self._give_up(f"failed ({_said(error)})")

    def _tell(self, tracker: Tracker, numbers: Mapping[str, float], step: int) -> None:
        try:
            tracker.log(numbers, step)
            self._failures = 0
        except Exception as error:
            self._failures += 1
            if self._failures == _MOST_FAILED:
                raise
            if not self._has_missed:
                self._say(f"{self.name} failed ({_said(error)}): what it was not told is missing there")
            self._has_missed = True

    def _give_up(self, why: str) -> None:
        self._failed = True
        self._say(f"the run is not told to {self.name}, which {why}")


def _said(error: BaseException) -> str:
    """One line of it."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def trackers(
    names: Sequence[TrackerName], project: str, run: str, folder: Path, say: Callable[[str], None]
) -> list[Aside]:
    """Those that a recipe names, each at work.

    Raises:
        OSError: the run's folder cannot be written to.
    """
    if not names:
        return []
    # Else a tracker would go on with another run of that name, of a folder that is gone or lies elsewhere,
    # and leave out the steps that it has of it.
    called = own_name(folder / NAMED, run)

    def maker(name: TrackerName) -> Callable[[], Tracker]:
        return lambda: MAKERS[name](project, called, folder)

    return [Aside(name, maker(name), say) for name in names]


def finish(asides: Sequence[Aside], limit_s: float = CLOSE_S) -> list[str]:
    """Let them write what they have, all at the same time, and for so long at most together.

    Returns:
        Names of those that have not finished by then.
    """
    deadline = time.monotonic() + limit_s
    for aside in asides:
        aside.end()
    return [aside.name for aside in asides if not aside.has_ended(max(0.0, deadline - time.monotonic()))]
