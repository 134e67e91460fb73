"""The run's three actors beside its services, and asking them while the run starts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rlad_core.config import RunConfig
from rlad_core.prompt_stream import Selection
from services.base.asking import answer_of
from services.clients.handles import ServiceNames
from services.evaluate.evaluator import Evaluator
from services.experience.collector import ExperienceCollector
from services.prompts import files_elsewhere
from services.report.journal import Journal
from services.run.errors import RunError
from services.run.watch import Watcher
from services.serve.cluster import NAMESPACE

_POLL_S = 0.5
_ANSWER_S = 60.0
_SAY_AFTER_S, _SAY_EVERY_S = 10.0, 30.0


@dataclass(frozen=True)
class RunActors:
    """Handles of the three.

    Attributes:
        prompts: is there once the collector has read those to train on.
    """

    collector: ActorHandle
    evaluator: ActorHandle
    journal: ActorHandle
    prompts: ray.ObjectRef[None]

    def ready(self, config: RunConfig) -> None:
        """Wait until they are there.

        Raises:
            TimeoutError: they are not in time.
            ValueError: the prompts cannot be made.
        """
        ask(config, self.prompts, "the prompts to train on")
        others = [self.evaluator.__ray_ready__.remote(), self.journal.__ray_ready__.remote()]
        ask(config, others, "the run's actors")


@contextmanager
def run_actors(
    config: RunConfig, policy_folder: str, run_dir: Path, selection: Selection
) -> Iterator[RunActors]:
    """The run's experience collector, evaluator and journal, begun; learner ranks find them by name."""
    # On this machine is the run's folder, and the other two read the files that tasks make prompts of.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    names = ServiceNames(config.services_name)
    common: dict[str, Any] = {"namespace": NAMESPACE, "num_cpus": 0}
    reads = common if files_elsewhere(config) else {**common, "scheduling_strategy": here}
    collector = (
        ray.remote(ExperienceCollector)
        .options(name=names.of("experience"), max_concurrency=1000, **reads)
        .remote(config, policy_folder, str(run_dir))
    )
    evaluator = (
        ray.remote(Evaluator)
        .options(name=names.of("evaluator"), **reads)
        .remote(config, policy_folder, str(run_dir), selection)
    )
    journal = (
        ray.remote(Journal)
        .options(name=names.of("journal"), scheduling_strategy=here, **common)
        .remote(str(run_dir), config.telemetry.trackers, config.telemetry.project)
    )
    try:
        yield RunActors(collector, evaluator, journal, collector.read_prompts.remote(selection))
        close_journal(journal)
    finally:
        for actor in (collector, evaluator, journal):
            with suppress(Exception):  # what ends the run is told, and not that Ray has gone before
                ray.kill(actor)


def close_journal(journal: ActorHandle, limit_s: float = _ANSWER_S) -> None:
    """Have it write out what is buffered. The work is done by then: that this takes too long fails nothing.

    It is told on stderr, with what the journal notes meanwhile, as nobody asks for its news any more.
    """
    try:
        notes = answer_of(journal.close.remote(), timeout_s=limit_s, what="the journal to close its files")
    except TimeoutError as error:
        notes = [f"{error}; every line of the record is written, a tracker may lack the last ones"]
    for note in notes:
        print(note, file=sys.stderr, flush=True)


def refuse_in_use(config: RunConfig) -> None:
    """See that no other run has the services that this one would share.

    Raises:
        RunError: one has.
    """
    with suppress(ValueError):  # there is none, as it should be
        ray.get_actor(ServiceNames(config.services_name).of("journal"), namespace=NAMESPACE)
        raise RunError(
            f"another run uses the services {config.services_name} (cluster.services); wait for its end, or "
            "write another name"
        )


def ask(config: RunConfig, reference: Any, what: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Wait for an actor while the run starts; what goes wrong is told without Ray's words."""
    answer_of(
        reference,
        timeout_s=config.cluster.start_timeout_s,
        what=f"{what} (cluster.start_timeout_s)",
        meanwhile=meanwhile,
        every_s=_POLL_S,
    )


def ask_and_show(config: RunConfig, reference: Any, what: str, actors: RunActors, watcher: Watcher) -> None:
    """The same, with what the journal is told meanwhile, and a word from time to time."""
    begun = time.monotonic()
    limit_s, say_at = config.cluster.start_timeout_s, _SAY_AFTER_S

    def show() -> None:
        nonlocal say_at
        _show_news(actors, watcher)
        if (waited := time.monotonic() - begun) > say_at:
            say_at += _SAY_EVERY_S
            watcher.say(f"still waiting for {what}: {waited:.0f} s of {limit_s:g} s")

    try:
        ask(config, reference, what, show)
    except Exception:
        _show_news(actors, watcher)  # what was told before it may say more
        raise
    _show_news(actors, watcher)


def _show_news(actors: RunActors, watcher: Watcher) -> None:
    news = actors.journal.news.remote(watcher.seen)
    watcher.show(answer_of(news, timeout_s=_ANSWER_S, what="the journal to answer"))
