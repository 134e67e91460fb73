"""``rlad learn``: a recipe's learner on recorded experience."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch.multiprocessing import ProcessRaisedException

from rlad_core import recorded
from rlad_core.config import RunConfig, resolve_model
from services.base.failures import plain
from services.report.page import ReportPaths, write_report
from services.run import folder
from services.run.errors import RefusedError, RunError
from services.run.initial_policy import write_initial_policy
from services.run.lease import HeldError, leased
from services.run.replay import replay


def learn(config: RunConfig, places: Sequence[Path], say: Callable[[str], None]) -> ReportPaths:
    """Train on recorded steps; the run's folder is as that of `rlad run`, without evaluations.

    Args:
        config: checked.
        places: files of recorded steps, or folders that have some.
        say: shows a sentence.

    Raises:
        RefusedError: nothing was started: the folder is in the way, there is no such file, or an objective
            cannot be computed from it.
        RunError: a rank failed.
    """
    run_dir = Path(config.run_dir).absolute()
    folder.check(run_dir, resume=False)
    try:
        files = recorded.files_of(places)
        for step in range(min(config.total_steps, len(files)) if files else 0):
            recorded.read(files[step]).check(config.position(step).stage.objective)
    except recorded.RecordedError as error:
        raise RefusedError(str(error)) from error
    if not files:
        raise RefusedError("there is no recorded step to train on. Write --experience FILE")
    try:
        with leased(run_dir, say):
            config, remarks = folder.begin(config, run_dir)
            for remark in remarks:
                say(remark)
            passes = (
                f", {config.total_steps / len(files):g} times each" if config.total_steps > len(files) else ""
            )
            say(f"{config.total_steps} steps on {min(len(files), config.total_steps)} recorded ones{passes}")
            replay(config, _policy_folder(config, run_dir), files, run_dir)
    except HeldError as error:
        raise RefusedError(str(error)) from error
    except ProcessRaisedException as error:
        raise RunError(f"the learner failed: {plain(str(error))}") from error
    return write_report(run_dir)


def _policy_folder(config: RunConfig, run_dir: Path) -> str:
    if config.policy.init == "pretrained":
        return resolve_model(config.policy.model)
    return str(write_initial_policy(config.policy.model, config.seed, run_dir / "initial"))
