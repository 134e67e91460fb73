"""One call to every replica of a deployment, and an answer of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_RETRY_PAUSE_S = 0.5


class EveryoneError(RuntimeError):
    """Not every replica did what it was told; the message names those that did, or that could not."""


def ask_everyone(
    handle: DeploymentHandle, method: str, *args: Any, who: str, what: str, expected: int, timeout_s: float
) -> list[Any]:
    """Call a method of every replica; it may be called again, and answers with a dict that has `replica`.

    A replica that Serve is just restarting gives no answer; it is waited for until ``timeout_s`` is over. One
    that answers with an error ends the wait at once: trying again would not help.

    Args:
        handle: of the deployment.
        method: its name.
        args: of the call.
        who: the replicas, in words: "rollout replicas".
        what: they are to do, in words: "load policy version 3".
        expected: how many must answer.
        timeout_s: limit for all of it.

    Raises:
        EveryoneError: naming the replicas that failed, or saying how many did not answer in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answers, silent = _broadcast(handle, method, args, who, what, max(1.0, deadline - time.monotonic()))
        if len(answers) >= expected and not silent:
            return answers
        if time.monotonic() + _RETRY_PAUSE_S > deadline:
            names = ", ".join(answer["replica"] for answer in answers) or "none"
            raise EveryoneError(
                f"waited {timeout_s:g} s for {expected} {who} to {what}; {len(answers)} did ({names})"
                + "".join(f"; {each}" for each in silent)
            )
        time.sleep(_RETRY_PAUSE_S)


def _broadcast(
    handle: DeploymentHandle, method: str, args: tuple[Any, ...], who: str, what: str, timeout_s: float
) -> tuple[list[Any], list[str]]:
    """One broadcast: the answers, and for each replica without one the reason."""
    try:
        found = handle.broadcast(method, *args).results(timeout_s=timeout_s, return_exceptions=True)
    except (DeploymentUnavailableError, TimeoutError) as error:
        return [], [f"{type(error).__name__}: {error}"]
    answers = [answer for answer in found if isinstance(answer, dict)]
    silent = [answer for answer in found if isinstance(answer, RayActorError | TimeoutError)]
    failed = [answer for answer in found if isinstance(answer, Exception) and answer not in silent]
    if failed:
        raise EveryoneError(
            f"{len(failed)} of {len(found)} {who} could not {what}: "
            + "; ".join(reason(error) for error in failed)
        ) from failed[0]
    return answers, [f"{type(error).__name__}: {reason(error)}" for error in silent]


def reason(error: Exception) -> str:
    """What a replica's error says, without the stack of the process it happened in."""
    return str(error.cause if isinstance(error, RayTaskError) else error)
