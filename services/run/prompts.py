"""The prompts of a run: checked when it starts, the same ones when it is resumed."""

from __future__ import annotations

from pathlib import Path

from rlad_core.config import RunConfig
from rlad_core.prompt_checks import DROPPED, Checked, read_record, write_record
from rlad_core.prompt_stream import Selection
from services.prompts import check_here, files_elsewhere, tell
from services.prompts.on_cluster import check_on_cluster
from services.run.watch import Watcher


class PromptsOfRun:
    """Which prompts a run uses.

    Checked here, before anything starts, where this machine has the data; else on the cluster, before any
    engine starts.

    Args:
        config: the run.
        model_folder: where the policy's tokenizer is.
        run_dir: the run's folder, which keeps what was found.
        watcher: shows it.

    Raises:
        ValueError: what an earlier start found cannot be read.
    """

    def __init__(self, config: RunConfig, model_folder: str, run_dir: Path, watcher: Watcher) -> None:
        self._config, self._model_folder = config, model_folder
        self._run_dir, self._watcher = run_dir, watcher
        self._earlier = read_record(run_dir)
        self._checked: Checked | None = None

    def check_here(self) -> None:
        """Check them, unless only the cluster has the data.

        Raises:
            PromptsRefusedError: see `rlad_core.prompt_checks.check`.
        """
        if not files_elsewhere(self._config):
            self._take(check_here(self._config, self._model_folder, self._watcher.console, self._earlier))

    def selection(self) -> Selection:
        """What is left out, checked on the cluster if it was not here.

        Raises:
            PromptsRefusedError: see `rlad_core.prompt_checks.check`.
        """
        if self._checked is None:
            with self._watcher.aside() as console:
                self._take(check_on_cluster(self._config, self._model_folder, console, self._earlier))
        assert self._checked is not None
        return self._checked.selection

    def _take(self, checked: Checked) -> None:
        if self._earlier is None:
            write_record(checked, self._run_dir)
        known = checked if self._earlier is None else self._earlier
        tell(known, self._watcher.say, self._run_dir / DROPPED)
        self._checked = checked
