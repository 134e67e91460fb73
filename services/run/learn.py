"""``rlad learn``: a recipe's learner on recorded experience."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from rlad_core import recorded
from rlad_core.config import RunConfig, resolve_model
from rlad_core.config.teachers import ServeTeacher
from services.base.failures import plain
from services.base.stopping import sigterm_interrupts
from services.report.page import write_report
from services.run import folder
from services.run.errors import RefusedError, RunError
from services.run.initial_policy import starting_folder
from services.run.preparing import RunOutcome, held, prepared
from services.run.replay import replay
from services.run.watch import Watcher


def learn(
    config: RunConfig,
    places: Sequence[Path],
    *,
    resume: bool = False,
    restartable: bool = False,
    watcher: Watcher,
) -> RunOutcome:
    """Train on recorded steps; the run's folder is as that of `rlad run`, without evaluations.

    Args:
        config: checked.
        places: files of recorded steps, or folders that have some.
        resume: go on from the last checkpoint.
        restartable: resume where it was begun before, else begin it.
        watcher: shows progress.

    Raises:
        RefusedError: nothing was started: the folder is in the way, there is nothing to resume, there is no
            such file, or an objective cannot be computed from it.
        RunError: a rank failed.
    """
    run_dir = Path(config.run_dir).absolute()
    if restartable:
        resume = folder.begun(run_dir, config)
    folder.check(run_dir, resume=resume)
    files = _files(config, places)
    with sigterm_interrupts(), held(run_dir, watcher.say) as lease:
        config, remarks = prepared(config, run_dir, resume=resume, files=files)
        for remark in remarks:
            watcher.say(remark)
        steps, there = config.total_steps, len(files)
        passes = f", {steps / there:g} times each" if steps > there else ""
        watcher.say(f"{steps} steps on {min(there, steps)} recorded ones{passes}")
        try:
            with watcher:
                policy_folder = starting_folder(config, run_dir, resolve_model)
                replay(config, policy_folder, files, run_dir, watcher, lease)
        except ProcessRaisedException as error:
            raise RunError(f"the learner failed: {plain(str(error))}") from error
        except ProcessExitedException as error:
            raise RunError(f"a rank of the learner has ended: {error}") from error
        report = write_report(run_dir)
    return RunOutcome(run_dir, watcher.steps_done >= config.total_steps, watcher.steps_done, report)


def _files(config: RunConfig, places: Sequence[Path]) -> list[Path]:
    """The recorded steps; every objective that one is trained on with can be computed from it."""
    try:
        files = recorded.files_of(places)
        if not files:
            raise RefusedError("there is no recorded step to train on. Write --experience FILE")
        for index, stage in enumerate(config.stages):
            if stage.objective.hidden_alpha(0) is not None:
                raise RefusedError(
                    f"stages.{index}.objective.source: hidden states are pulled from a teacher's service "
                    "while a run trains, and recorded steps have none. Write source: top_k"
                )
            if stage.until is not None:
                raise RefusedError(
                    f"stages.{index}.until: recorded steps are trained on as they come, and nothing is "
                    "evaluated between. Write null"
                )
        # Of a teacher that is somewhere else nobody knows here what it could have told.
        served = [each for each in config.teacher_sections.values() if isinstance(each, ServeTeacher)]
        asks_for_ends = any(each.engine == "torch" for each in served)
        stages = defaultdict(set)
        for step in range(config.total_steps):
            stages[step % len(files)].add(config.position(step).index)
        for place, indices in stages.items():
            found = recorded.read(files[place])
            for index in sorted(indices):
                found.check(
                    config.stages[index].objective,
                    config.policy_teacher,
                    drop_uninformative=config.rollout.drop_uninformative,
                )
                if asks_for_ends:
                    found.check_ends(config.stages[index].objective)
    except recorded.RecordedError as error:
        raise RefusedError(str(error)) from error
    return files
