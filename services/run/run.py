"""A run from recipe to report: cluster, services, experience, learner, and what a person sees meanwhile."""

import re
import shutil
import signal
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ray
from pydantic import ValidationError
from ray.actor import ActorHandle
from ray.train import WorkerGroupError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlad_core.config import RunConfig, load, resolve_model
from rlad_core.config.loading import dump_values
from rlad_core.prompt_checks import PromptsRefusedError
from rlad_core.prompt_stream import Selection
from rlad_core.sections.findings import problems_of
from services.clients.calls import answer_of
from services.clients.handles import ServiceNames, teacher_tokens
from services.evaluate.evaluator import Evaluator
from services.experience.collector import ExperienceCollector
from services.learner.trainer import build_trainer
from services.report.journal import Journal
from services.report.page import ReportPaths, write_report
from services.run import own_code
from services.run.announcement import announced
from services.run.applications import applications, wanted_cpus
from services.run.prompts import PromptsOfRun
from services.run.watch import Watcher
from services.serve.cluster import NAMESPACE, cluster, joined_address
from services.serve.deployment import DeploymentError, deployed
from services.weights.store import close_store, policy_store

RECIPE, FAILURE = "recipe.yaml", "failure.log"
# The last line of a traceback, with what follows where the message has several.
_RAISED = re.compile(r"^[A-Za-z_][\w.]*(?:: |$)")
_POLL_S = 0.5


class RunError(Exception):
    """The run cannot start or did not finish; the message is for the person who started it."""


@dataclass(frozen=True)
class RunOutcome:
    """What a run left."""

    run_dir: Path
    finished: bool
    steps: int
    report: ReportPaths


def run(
    config: RunConfig, *, resume: bool = False, restartable: bool = False, watcher: Watcher
) -> RunOutcome:
    """Carry out a run.

    Args:
        config: checked.
        resume: continue the run of that name from its last checkpoint; else its folder must not exist.
        restartable: resume where the run was begun before, else begin it.
        watcher: shows progress.

    Raises:
        RunError: the folder is in the way, there is nothing to resume, or something failed on the way.
        PromptsRefusedError: the run does not start with these prompts.
    """
    run_dir = Path(config.run_dir).absolute()
    if restartable:
        resume = (run_dir / RECIPE).is_file()
    tokens = _teacher_tokens(config)
    config, remarks = _prepare(config, run_dir, resume)
    policy_folder = _policy_folder(config, run_dir)
    prompts = PromptsOfRun(config, policy_folder, run_dir, watcher)
    try:
        prompts.check_here()
    except PromptsRefusedError:
        if not resume:
            shutil.rmtree(run_dir)  # so that the name is free again
        raise
    # After Ray, which takes SIGTERM for itself when it starts.
    ray_of_the_run = cluster(
        config.cluster, wanted_cpus=wanted_cpus(config), metrics_port=config.telemetry.metrics_port
    )
    with watcher, ray_of_the_run, _sigterm_interrupts(), announced(run_dir):
        for remark in remarks:
            watcher.say(remark)
        selection = prompts.selection()
        watcher.say(f"starting {', '.join(_service_names(config))}")
        with (
            _services(config, policy_folder, watcher),
            _actors(config, policy_folder, run_dir, selection) as actors,
        ):
            if config.needs_teacher:
                probes = actors.collector.probe_teachers.remote(tokens)
                _ask(config, probes, "the teacher's answer to a probe")
            watcher.say("starting the learner")
            failure = _fit(config, policy_folder, actors, watcher)
    report = write_report(run_dir)
    if failure is not None:
        (run_dir / FAILURE).write_text("".join(traceback.format_exception(failure)))
        raise RunError(
            f"{_said(failure)}\nThe record up to here is in {run_dir} (report: {report.html}), "
            f"the whole of the failure in {FAILURE} there."
        ) from failure
    return RunOutcome(run_dir, watcher.steps_done >= config.total_steps, watcher.steps_done, report)


@dataclass(frozen=True)
class _Actors:
    collector: ActorHandle
    journal: ActorHandle


def _prepare(config: RunConfig, run_dir: Path, resume: bool) -> tuple[RunConfig, list[str]]:
    """Check the run's folder, and write recipe and code there; the recipe with that code, and remarks."""
    recipe = run_dir / RECIPE
    if not resume:
        if run_dir.exists() and any(run_dir.iterdir()):
            raise RunError(
                f"{run_dir} exists already. Continue that run with --resume, choose another name with "
                f"--set name=..., or delete the folder"
            )
        run_dir.mkdir(parents=True, exist_ok=True)
        recipe.write_text(dump_values(own_code.keep(config, run_dir)))
        try:
            return _with_copies(config, run_dir)
        except RunError:
            shutil.rmtree(run_dir)  # so that the name is free again
            raise
    if not recipe.is_file():
        raise RunError(f"there is no run to resume in {run_dir}: it has no {RECIPE}")
    config, remarks = _with_copies(config, run_dir)
    before, now = load(recipe).model_dump(), config.model_dump()
    changed = sorted(key for key in before if before[key] != now[key] and key not in ("cluster", "telemetry"))
    if changed:
        raise RunError(
            f"the recipe differs from that of the run in {run_dir} (in {', '.join(changed)}); resume with "
            f"the recipe it was started with, {recipe}"
        )
    return config, remarks


def _with_copies(config: RunConfig, run_dir: Path) -> tuple[RunConfig, list[str]]:
    try:
        return own_code.kept(config, run_dir)
    except ValidationError as error:
        problems = "; ".join(map(str, problems_of(error, RunConfig)))
        raise RunError(
            f"the copy of your code in {run_dir} cannot be used: {problems}. Copied are the files that a "
            "recipe names and those beside them that they import; name other files in the recipe"
        ) from error


def _policy_folder(config: RunConfig, run_dir: Path) -> str:
    """The folder or hub id that the policy starts from; random weights are made here."""
    if config.policy.init == "pretrained":
        return resolve_model(config.policy.model)
    from services.run.initial_policy import write_initial_policy  # with it transformers

    return str(write_initial_policy(config.policy.model, config.seed, run_dir / "initial"))


def _service_names(config: RunConfig) -> list[str]:
    taught = config.needs_teacher and config.served_teachers
    return ["Ray", "rollout service", *(["teacher service"] if taught else []), "verifier service"]


@contextmanager
def _services(config: RunConfig, policy_folder: str, watcher: Watcher) -> Iterator[None]:
    """Services and policy store of the run."""
    policy_store(ServiceNames(config.name).policy_store)
    apps = applications(config, policy_folder)
    joined = joined_address(config.cluster) is not None  # a cluster of our own ends anyway, and all in it
    try:
        with deployed(
            apps,
            timeout_s=config.cluster.start_timeout_s,
            setting="cluster.start_timeout_s",
            take_down=joined,
        ) as url:
            watcher.say(f"services are up on {url} ({', '.join(f'/{name}' for name in apps)})")
            yield
    except DeploymentError as error:
        raise RunError(str(error)) from error
    finally:
        if joined:
            close_store(ServiceNames(config.name).policy_store)


@contextmanager
def _actors(config: RunConfig, policy_folder: str, run_dir: Path, selection: Selection) -> Iterator[_Actors]:
    """The run's experience collector, evaluator and journal; learner ranks find them by name."""
    common: dict[str, Any] = {"namespace": NAMESPACE, "num_cpus": 0}
    collector = (
        ray.remote(ExperienceCollector)
        .options(name=f"{config.name}-experience", max_concurrency=1000, **common)
        .remote(config, policy_folder, str(run_dir))
    )
    evaluator = (
        ray.remote(Evaluator)
        .options(name=f"{config.name}-evaluator", **common)
        .remote(config, policy_folder, str(run_dir), selection)
    )
    # On this machine, where the run's folder is.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    journal = (
        ray.remote(Journal)
        .options(name=f"{config.name}-journal", scheduling_strategy=here, **common)
        .remote(str(run_dir))
    )
    try:
        _ask(config, collector.read_prompts.remote(selection), "the prompts to train on")
        _ask(config, [evaluator.__ray_ready__.remote(), journal.__ray_ready__.remote()], "the run's actors")
        yield _Actors(collector, journal)
        ray.get(journal.close.remote(), timeout=60)
    finally:
        for actor in (collector, evaluator, journal):
            ray.kill(actor)


def _teacher_tokens(config: RunConfig) -> dict[str, str]:
    """Read here: the node that the teachers are asked from may have neither the variable nor the file."""
    try:
        return teacher_tokens(config)
    except ValueError as error:
        raise RunError(str(error)) from error


def _ask(config: RunConfig, reference: Any, what: str) -> None:
    """Wait for an actor while the run starts; what goes wrong is told without Ray's words."""
    limit_s = config.cluster.start_timeout_s
    try:
        answer_of(reference, timeout_s=limit_s, what=f"{what} (cluster.start_timeout_s)")
    except Exception as error:
        raise RunError(str(error)) from error


def _fit(config: RunConfig, policy_folder: str, actors: _Actors, watcher: Watcher) -> BaseException | None:
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
            watcher.show(ray.get(actors.journal.news.remote(watcher.seen), timeout=60))
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            watcher.say("stopping after this step, with a checkpoint (Ctrl-C again stops at once)")
            ray.get(actors.collector.stop.remote(), timeout=60)
    watcher.show(ray.get(actors.journal.news.remote(watcher.seen), timeout=60))
    return failures[0] if failures else None


@contextmanager
def _sigterm_interrupts() -> Iterator[None]:
    """SIGTERM, which is how schedulers and Kubernetes stop a process, does what Ctrl-C does, and that once.

    For one stop it may come twice, from a pod's preStop and from the operator; neither means "at once", which
    is SIGKILL's to say.
    """

    told = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal told
        if not told:
            told = True
            signal.default_int_handler(number, frame)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _said(failure: BaseException) -> str:
    """What a failure says; of the learner's, what its first rank raised, without the stack of it."""
    if not isinstance(failure, WorkerGroupError) or not failure.worker_failures:
        return str(failure)
    rank, error = min(failure.worker_failures.items())
    lines = str(error).rstrip().splitlines()
    raised = [place for place, line in enumerate(lines) if _RAISED.match(line)]
    return f"learner rank {rank}: " + "\n".join(lines[raised[-1] if raised else 0 :])
