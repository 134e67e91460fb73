"""A run from recipe to report: cluster, services, experience, learner, and what a person sees meanwhile."""

import shlex
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from rlad_core.config import RunConfig, place_of
from rlad_core.config.remarks import run_remarks
from services.base.failures import said
from services.base.stopping import keep_interrupting, sigterm_interrupts
from services.base.uncollected import uncollected
from services.clients.teachers import MismatchError, compare_here, teacher_tokens
from services.report.page import ReportPaths
from services.run import folder
from services.run.announcement import announced
from services.run.divergence import note_divergence
from services.run.errors import RefusedError, RunError
from services.run.folder import FAILURE
from services.run.initial_policy import starting_folder
from services.run.preparing import Fork, RunOutcome, finished, held, prepared, reported, written
from services.run.prompts import PromptsOfRun
from services.run.wanted_cpus import wanted_cpus
from services.run.watch import Watcher
from services.serve.cluster import cluster, joined_address


def run(
    config: RunConfig,
    *,
    resume: bool = False,
    restartable: bool = False,
    fork: Fork | None = None,
    watcher: Watcher,
) -> RunOutcome:
    """Carry out a run.

    Args:
        config: checked.
        resume: continue the run of that name from its last checkpoint.
        restartable: resume where the run was begun or forked before, else begin it.
        fork: begin it with another run's checkpoint.
        watcher: shows progress.

    Raises:
        RefusedError: the folder is in the way, there is nothing to resume, another process works on it, a
            teacher's tokens are not the policy's, or the cluster cannot be reached; no engine was started.
        PromptsRefusedError: the run does not start with these prompts; likewise.
        RunError: something failed on the way.
    """
    run_dir = Path(config.run_dir).absolute()
    if restartable:
        resume = folder.goes_on(run_dir, config)
    folder.check(run_dir, resume=resume)
    tokens = _teacher_tokens(config)
    with sigterm_interrupts(), held(run_dir, watcher.say) as lease:
        config, remarks = prepared(config, run_dir, resume=resume, fork=fork)
        if resume and (outcome := finished(config, run_dir, watcher.say)) is not None:
            return outcome
        with written(run_dir):
            policy_folder = starting_folder(config, run_dir, partial(place_of, config))
            prompts = PromptsOfRun(config, policy_folder, run_dir, watcher)
            prompts.check_here()
            _refuse_other_tokens(config, policy_folder)
        with watcher, _ray(config, watcher.say), announced(run_dir):
            for remark in (*remarks, *run_remarks(config)):
                watcher.say(remark)
            selection = prompts.selection()
            try:
                from services.run.training import carry_out

                failure = carry_out(config, policy_folder, run_dir, selection, tokens, watcher, lease)
            except Exception as error:  # noqa: BLE001 - told below, whatever it is
                failure = error
        # Without Ray, whose processes may be what fails.
        report = reported(run_dir, watcher.say)
        if failure is not None:
            raise _told(failure, run_dir, report) from failure
    return RunOutcome(run_dir, watcher.steps_done >= config.total_steps, watcher.steps_done, report)


def _import_training() -> None:
    """Serve, Ray Train and torch, which nothing needs before there is a Ray."""
    with uncollected():
        import services.run.training  # noqa: F401


def _refuse_other_tokens(config: RunConfig, policy_folder: str) -> None:
    try:
        compare_here(config, policy_folder)
    except MismatchError as error:
        raise RefusedError(str(error)) from error


@contextmanager
def _ray(config: RunConfig, say: Callable[[str], None]) -> Iterator[None]:
    """The run's cluster; that there is none is found before an engine starts."""
    recipe = shlex.quote(f"{config.run_dir}/{folder.RECIPE}")
    with ExitStack() as stack:
        try:
            ray_of_the_run = cluster(
                config.cluster,
                wanted_cpus=wanted_cpus(config),
                metrics_port=config.telemetry.metrics_port,
                meanwhile=_import_training,
                go_on=f"Continue with\n  rlad run {recipe} --resume",
                say=say,
            )
            stack.enter_context(ray_of_the_run)
        except SystemExit as error:  # what Ray makes of SIGTERM while it starts
            raise KeyboardInterrupt from error
        except Exception as error:
            where = joined_address(config.cluster)
            what = f"the Ray cluster at {where} cannot be joined" if where else "Ray does not start"
            raise RefusedError(f"{what}: {said(error)}") from error
        keep_interrupting()
        yield


def _told(failure: BaseException, run_dir: Path, report: ReportPaths | None) -> RunError:
    """The failure in words, its whole in the run's folder."""
    where = f"The record up to here is in {run_dir}"
    if report is not None:
        where += f" (report: {report.html})"
    stacks = "".join(traceback.format_exception(failure))
    whole = f"{stacks}\n{getattr(failure, 'whole', '')}".rstrip() + "\n"
    try:
        # Whatever a failure quotes can be written: half a character, or one that the locale does not have.
        (run_dir / FAILURE).write_text(whole, encoding="utf-8", errors="backslashreplace")
        note_divergence(run_dir, whole, said(failure))
        where += f", the whole of the failure in {FAILURE} there."
    except OSError as error:
        where += f"; the whole of the failure could not be written there: {error.strerror or error}."
    return RunError(f"{said(failure)}\n{where}")


def _teacher_tokens(config: RunConfig) -> dict[str, str]:
    """Read here: the node that the teachers are asked from may have neither the variable nor the file."""
    try:
        return teacher_tokens(config)
    except ValueError as error:
        raise RefusedError(str(error)) from error
