"""A run from recipe to report: cluster, services, experience, learner, and what a person sees meanwhile."""

import shlex
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from ray.exceptions import RayActorError

from rlad_core.config import RunConfig, place_of
from rlad_core.config.remarks import run_remarks
from rlad_core.prompt_stream import Selection
from services.base.asking import answer_of
from services.base.failures import said
from services.base.losses import is_loss, wait_s
from services.base.stopping import keep_interrupting, sigterm_interrupts
from services.clients.handles import ServiceNames, teacher_tokens
from services.learner.trainer import build_trainer
from services.report.page import ReportPaths, write_report
from services.run import folder
from services.run.actors import RunActors, ask, ask_and_show, refuse_in_use, run_actors
from services.run.announcement import announced
from services.run.applications import application, service_args, wanted_cpus
from services.run.divergence import note_divergence
from services.run.errors import LearnerError, RefusedError, RunError
from services.run.folder import FAILURE
from services.run.lease import Lease
from services.run.preparing import Fork, RunOutcome, held, prepared, written
from services.run.prompts import PromptsOfRun
from services.run.watch import Watcher
from services.serve.cluster import cluster, joined_address
from services.serve.deployment import deployed, taken_down
from services.serve.kept import kept
from services.weights.policy_store import close_store, policy_store

_POLL_S = 0.5
_ANSWER_S = 60.0
_SAY_AFTER_S, _SAY_EVERY_S = 10.0, 30.0


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
        restartable: resume where the run was begun before, else begin it.
        fork: begin it with another run's checkpoint.
        watcher: shows progress.

    Raises:
        RefusedError: the folder is in the way, there is nothing to resume, another process works on it, or
            the cluster cannot be reached; no engine was started.
        PromptsRefusedError: the run does not start with these prompts; likewise.
        RunError: something failed on the way.
    """
    run_dir = Path(config.run_dir).absolute()
    if restartable:
        resume = folder.begun(run_dir, config)
    folder.check(run_dir, resume=resume)
    tokens = _teacher_tokens(config)
    with sigterm_interrupts(), held(run_dir, watcher.say) as lease:
        config, remarks = prepared(config, run_dir, resume=resume, fork=fork)
        with written(run_dir):
            policy_folder = _policy_folder(config, run_dir)
            prompts = PromptsOfRun(config, policy_folder, run_dir, watcher)
            prompts.check_here()
        with watcher, _ray(config), announced(run_dir):
            for remark in (*remarks, *run_remarks(config)):
                watcher.say(remark)
            selection = prompts.selection()
            try:
                failure = _carry_out(config, policy_folder, run_dir, selection, tokens, watcher, lease)
            except Exception as error:  # noqa: BLE001 - told below, whatever it is
                failure = error
        # Without Ray, whose processes may be what fails.
        report = _report(run_dir, watcher)
        if failure is not None:
            raise _told(failure, run_dir, report) from failure
    return RunOutcome(run_dir, watcher.steps_done >= config.total_steps, watcher.steps_done, report)


@contextmanager
def _ray(config: RunConfig) -> Iterator[None]:
    """The run's cluster; that there is none is found before an engine starts."""
    recipe = shlex.quote(f"{config.run_dir}/{folder.RECIPE}")
    with ExitStack() as stack:
        try:
            ray_of_the_run = cluster(
                config.cluster,
                wanted_cpus=wanted_cpus(config),
                metrics_port=config.telemetry.metrics_port,
                go_on=f"Continue with\n  rlad run {recipe} --resume",
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


def _carry_out(
    config: RunConfig,
    policy_folder: str,
    run_dir: Path,
    selection: Selection,
    tokens: dict[str, str],
    watcher: Watcher,
    lease: Lease,
) -> BaseException | None:
    """Services, learner, and training to the end or to an interrupt; what went wrong with it, or None."""
    watcher.say(f"starting {', '.join(_service_names(config))}")
    learner = config.learner
    with _services(config, policy_folder, watcher):
        for attempt in count(1):
            try:
                failure = _attempt(config, policy_folder, run_dir, selection, tokens, watcher, lease)
            except Exception as error:
                if not is_loss(error):
                    raise
                failure = error
            if failure is None or attempt > learner.max_failures or not is_loss(failure):
                return failure
            pause_s = wait_s(learner.restart_wait_s, attempt + 1)
            watcher.say(f"{said(failure)}; the run goes on from its last checkpoint in {pause_s:g} s")
            time.sleep(pause_s)
    raise AssertionError("the loop above returns")


def _attempt(
    config: RunConfig,
    policy_folder: str,
    run_dir: Path,
    selection: Selection,
    tokens: dict[str, str],
    watcher: Watcher,
    lease: Lease,
) -> BaseException | None:
    """The run's actors, and training with them, which ends where one of them is lost."""
    watcher.seen = 0  # of a new journal
    with run_actors(config, policy_folder, run_dir, selection) as actors:
        if config.scorers:
            probes = actors.collector.probe_teachers.remote(tokens)
            asked = ", ".join(teacher.where for teacher in config.scorers.values())
            ask_and_show(config, probes, f"an answer of the teacher, {asked}", actors, watcher)
        # An evaluation ends responses as training does; the teachers' end tokens are known only now.
        ends = actors.collector.end_tokens.remote()
        ask(config, actors.evaluator.end_with.remote(ends), "the end tokens of the evaluation")
        watcher.say("starting the learner")
        return _fit(config, policy_folder, actors, watcher, lease)


def _report(run_dir: Path, watcher: Watcher) -> ReportPaths | None:
    """What fails here never hides what failed before."""
    try:
        return write_report(run_dir)
    except Exception as error:  # noqa: BLE001
        watcher.say(f"the report cannot be written: {said(error)}")
        return None


def _told(failure: BaseException, run_dir: Path, report: ReportPaths | None) -> RunError:
    """The failure in words, its whole in the run's folder."""
    where = f"The record up to here is in {run_dir}"
    if report is not None:
        where += f" (report: {report.html})"
    stacks = "".join(traceback.format_exception(failure))
    whole = f"{stacks}\n{getattr(failure, 'whole', '')}".rstrip() + "\n"
    try:
        (run_dir / FAILURE).write_text(whole)
        note_divergence(run_dir, whole, said(failure))
        where += f", the whole of the failure in {FAILURE} there."
    except OSError as error:
        where += f"; the whole of the failure could not be written there: {error.strerror or error}."
    return RunError(f"{said(failure)}\n{where}")


def _policy_folder(config: RunConfig, run_dir: Path) -> str:
    """Folder (here or on the cluster) or hub id that the policy starts from; random weights are made here."""
    if config.policy.init == "pretrained":
        return place_of(config, config.policy.model)
    from services.run.initial_policy import write_initial_policy  # with it transformers

    return str(write_initial_policy(config.policy.model, config.seed, run_dir / "initial"))


def _service_names(config: RunConfig) -> list[str]:
    taught = config.needs_teacher and config.served_teachers
    return ["Ray", "rollout service", *(["teacher service"] if taught else []), "verifier service"]


@contextmanager
def _services(config: RunConfig, policy_folder: str, watcher: Watcher) -> Iterator[None]:
    """Services and policy store of the run, as far as they are not up from the one before."""
    names = ServiceNames(config.services_name)
    wanted = service_args(config, policy_folder)
    found: list[str] = []
    if config.cluster.services is not None:
        refuse_in_use(config)
        found = kept(wanted, watcher.say)
        if names.of("rollout") not in found:  # new engines would begin with what the one before published
            close_store(names.policy_store)
    new = [name for name in wanted if name not in found]
    policy_store(names.policy_store)
    # A cluster of our own ends anyway, and all in it.
    take_down = joined_address(config.cluster) is not None and config.cluster.services is None
    try:
        with deployed(
            {name: application(wanted[name]) for name in new},
            timeout_s=config.cluster.start_timeout_s,
            setting="cluster.start_timeout_s",
            take_down=False,  # below, where it is told what does not end
        ) as url:
            before = f"; up from before: {', '.join(found)}" if found else ""
            watcher.say(f"services are up on {url} ({', '.join(f'/{name}' for name in wanted)}){before}")
            yield
    finally:
        if take_down:
            taken_down(new, watcher.say)
            close_store(names.policy_store)


def _teacher_tokens(config: RunConfig) -> dict[str, str]:
    """Read here: the node that the teachers are asked from may have neither the variable nor the file."""
    try:
        return teacher_tokens(config)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _fit(
    config: RunConfig, policy_folder: str, actors: RunActors, watcher: Watcher, lease: Lease
) -> BaseException | None:
    """Train to the end, or to an interrupt; what went wrong, or None."""
    failures: list[BaseException] = []
    ended = threading.Event()

    def fit() -> None:
        try:
            build_trainer(config, policy_folder).fit()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, whatever it is
            failures.append(error)
        finally:
            ended.set()

    # In a thread, so that this one can show progress and take Ctrl-C.
    threading.Thread(target=fit, name="learner", daemon=True).start()
    interrupted = False
    while not ended.is_set():
        try:
            # Not `join`: a thread whose `join` was interrupted is taken for dead (CPython before 3.13).
            ended.wait(_POLL_S)
            watcher.show(_answer(actors.journal.news.remote(watcher.seen), "the journal to answer"))
            if lease.lost:
                raise RunError(f"the run was taken over by {lease.lost}, and stops here")
        except RayActorError as error:
            # The journal is gone. The learner finds it out when it is to tell its step, and ends.
            if not ended.wait(config.learner.timeout_s):
                what = f"the learner to end, as the journal has: {said(error)}"
                raise TimeoutError(f"waited {config.learner.timeout_s:g} s for {what}") from error
            if interrupted:  # who was told to stop begins nothing anew
                raise KeyboardInterrupt from error
            return error
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            watcher.say("stopping after this step, with a checkpoint (Ctrl-C again stops at once)")
            try:
                _answer(actors.collector.stop.remote(), "the experience collector to stop")
            except RayActorError as error:  # there is no step to end
                raise KeyboardInterrupt from error
    watcher.show(_answer(actors.journal.news.remote(watcher.seen), "the journal to answer"))
    if (given_up := _answer(actors.journal.given_up.remote(), "the journal to answer")) is not None:
        return LearnerError(*given_up)
    if failures:
        if interrupted and is_loss(failures[0]):
            raise KeyboardInterrupt from failures[0]
        return failures[0]
    # Ranks that find one of them gone end as if all were done.
    _answer(
        [actor.__ray_ready__.remote() for actor in (actors.collector, actors.evaluator)],
        "the run's actors to answer",
    )
    return None


def _answer(reference: Any, what: str) -> Any:
    """Of one of the run's actors, which is asked for little."""
    return answer_of(reference, timeout_s=_ANSWER_S, what=what)
