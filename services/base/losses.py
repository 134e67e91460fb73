"""Whether a failure is the loss of a process, for which another one can stand in, or a fault to be mended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_CONNECTION = ("connection closed by peer", "connection reset", "connection refused", "broken pipe")
"""What the ranks that are left say of one that is gone (gloo, NCCL's sockets)."""
_NO_ACTOR = "failed to look up actor"
_STORE = (
    "is not in the store, which holds",
    "was not begun here; publish it again",
    "the policy store has none: publish it first",
)
"""What follows where the policy store was lost, and is there again with nothing in it."""

_LONGEST_WAIT_S = 60.0


def is_loss(failure: BaseException) -> bool:
    """Whether a process, its node or its connection was lost, and nothing raised by itself.

    Of a group of ranks it is one where each failed so: one that raised something else will do it again.
    """
    from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError

    if isinstance(failure, RayTaskError):
        return isinstance(failure.cause, BaseException) and is_loss(failure.cause)
    if ranks := getattr(failure, "worker_failures", None):
        return all(is_loss(each) for each in _causes(ranks.values()))
    lost = RayActorError | WorkerCrashedError | NodeDiedError | ObjectLostError | ConnectionError
    if isinstance(failure, lost):
        return True
    text = str(failure).lower()
    return _NO_ACTOR in text or any(words in text for words in (*_CONNECTION, *_STORE))


def wait_s(first: float, attempt: int) -> float:
    """Seconds before the attempt of this number, the second of which is 2, after losses.

    Args:
        first: before the second.
    """
    return float(min(_LONGEST_WAIT_S, first * 2 ** (attempt - 2))) if attempt > 1 else 0.0


def _causes(failures: Iterable[BaseException]) -> Iterator[BaseException]:
    for failure in failures:
        yield getattr(failure, "health_check_failure", None) or failure
