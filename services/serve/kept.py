"""Services that outlive the run which started them: found again by their settings.

A run with ``cluster.services`` leaves its applications up. The next one under the same name uses those that
were started with the very settings it would start them with, and replaces the others. What they hold of the
run before is no matter: a learner publishes its weights before anything is sampled, and each of the other two
answers alike whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.base.failures import said
from services.serve import here
from services.serve.deployment import serve_is_up, taken_down
from services.serve.states import application_states

if TYPE_CHECKING:
    from services.serve.replica_settings import ReplicaArgs

_ANSWER_S = 30.0


@dataclass(frozen=True)
class _Settings:
    """What a replica was started with."""

    digest: str


def remember(args: ReplicaArgs) -> None:
    """Called in a replica as it begins."""
    here.keep(_Settings(args.digest))


class TellsSettings:
    """By which a service is found again; never answered over HTTP."""

    async def started_with(self) -> str:
        """See `ReplicaArgs.digest`."""
        return here.part(_Settings).digest


def kept(wanted: Mapping[str, ReplicaArgs], say: Callable[[str], None]) -> list[str]:
    """The applications that are up with the settings that are wanted; those that are not are taken down.

    Args:
        wanted: settings of a run's applications, by their names.
        say: told what is replaced, and why.
    """
    if not serve_is_up():
        return []
    there = application_states()
    found = []
    for name, args in wanted.items():
        if name not in there:
            continue
        if why := _why_not(name, args):
            say(f"{name} is started anew: {why}")
            taken_down([name], say)
        else:
            found.append(name)
    return found


def all_taken_down(prefix: str, say: Callable[[str], None]) -> None:
    """End all applications whose names begin with this."""
    if serve_is_up():
        taken_down([name for name in application_states() if name.startswith(prefix)], say)


def _why_not(name: str, args: ReplicaArgs) -> str | None:
    """Why an application cannot be used as it is; None: it can."""
    from ray import serve

    if not args.reusable:
        return "it works for one learner"
    try:
        answer = serve.get_app_handle(name).started_with.remote()
        settings = answer.result(timeout_s=_ANSWER_S)
    except Exception as error:  # noqa: BLE001 - whatever it is, another one is started
        return f"it does not answer: {said(error)}"
    return None if settings == args.digest else "this run has other settings for it"
