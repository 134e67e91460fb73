"""One call to every replica of a deployment, and an answer of each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import DeploymentUnavailableError

from rlad_core.client.errors import NotReadyError
from services.base.losses import LossError, is_loss

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_RETRY_PAUSE_S = 0.5


class EveryoneError(RuntimeError):
    """Not every replica did what it was told; the message names those that did, or that could not."""


class EveryoneLostError(EveryoneError, LossError):
    """Likewise, for want of what was lost with another process."""


def ask_everyone(
    handle: DeploymentHandle, method: str, *args: Any, who: str, what: str, expected: int, timeout_s: float
) -> list[Any]:
    """Call a method of every replica; it may be called again, and answers with a dict that has `replica`.

    A replica that Serve is just restarting gives no answer, one that it is to replace is not ready. They are
    waited for until ``timeout_s`` is over. Another error ends the wait at once: trying again would not help.

    Args:
        handle: of the deployment.
        method: its name.
        args: of the call.
        who: the replicas, in words: "rollout replicas".
        what: they are to do, in words: "load policy version 3".
        expected: how many must answer.
        timeout_s: limit for all of it.

    Raises:
        EveryoneError: naming the replicas that failed, or saying how many did not answer in time and why.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        answers, silent = _broadcast(handle, method, args, who, what, max(1.0, deadline - time.monotonic()))
        if len(answers) >= expected and not silent:
            return answers
        if time.monotonic() + _RETRY_PAUSE_S > deadline:
            raise EveryoneError(
                f"waited {timeout_s:g} s for {expected} {who} to {what}; {_did(answers, silent)}"
            )
        time.sleep(_RETRY_PAUSE_S)


def tell_everyone(
    handle: DeploymentHandle, method: str, *args: Any, who: str, what: str, expected: int, timeout_s: float
) -> list[Any]:
    """The same with a method that must not be called again: nobody is waited for.

    Args:
        expected: how many there are, no more and no fewer.

    Raises:
        EveryoneError: naming the replicas that failed, or saying how many did not answer and why.
    """
    answers, silent = _broadcast(handle, method, args, who, what, timeout_s)
    if silent or len(answers) != expected:
        raise EveryoneError(f"{expected} {who} were to {what}; {_did(answers, silent)}")
    return answers


def _did(answers: list[Any], silent: list[str]) -> str:
    names = ", ".join(answer["replica"] for answer in answers) or "none"
    return f"{len(answers)} did ({names})" + "".join(f"; {each}" for each in silent)


def _broadcast(
    handle: DeploymentHandle, method: str, args: tuple[Any, ...], who: str, what: str, timeout_s: float
) -> tuple[list[Any], list[str]]:
    """One broadcast: the answers, and for each replica without one the reason."""
    try:
        found = handle.broadcast(method, *args).results(timeout_s=timeout_s, return_exceptions=True)
    except (DeploymentUnavailableError, TimeoutError) as error:
        return [], [f"{type(error).__name__}: {error}"]
    answers = [answer for answer in found if isinstance(answer, dict)]
    raised = [_raised(answer) for answer in found if isinstance(answer, Exception)]
    silent = [error for error in raised if isinstance(error, RayActorError | TimeoutError | NotReadyError)]
    if failed := [error for error in raised if error not in silent]:
        lost = all(is_loss(error) for error in failed)
        raise (EveryoneLostError if lost else EveryoneError)(
            f"{len(failed)} of {len(found)} {who} could not {what}: "
            + "; ".join(str(error) for error in failed)
        ) from failed[0]
    return answers, [f"{type(error).__name__}: {error}" for error in silent]


def _raised(error: Exception) -> Exception:
    """What a replica raised, without the stack of the process it happened in."""
    return error.cause if isinstance(error, RayTaskError) else error
