"""Whether a failure is the loss of a process, for which another one can stand in, or a fault to be mended."""

from __future__ import annotations

_CONNECTION = (
    *("connection closed by peer", "connection reset", "connection refused", "broken pipe"),
    *("connection was likely closed", "connection closed by remote peer"),
    *("ncclremoteerror", "remote process exited"),
)
"""What the ranks that are left say of one that is gone."""
_TRANSPORTS = ("gloo/transport/", "nccl error")
"""What stands in their errors, also where a user's objective that asked the other ranks is told with them."""
_NO_ACTOR = "Failed to look up actor"
"""How Ray's ValueError begins."""

_LONGEST_WAIT_S = 60.0


class LossError(RuntimeError):
    """What a process held was lost with it; who begins anew with the last checkpoint gives it again."""


def is_loss(failure: BaseException) -> bool:
    """Whether a process, its node or its connection was lost, and nothing raised by itself.

    Told by its class; the words are read only of what Ray and the ranks' transports raise without a class of
    their own, for a user's error may say the same.

    Of a group of ranks it is one where each failed so: one that raised something else will do it again.
    """
    from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError

    if isinstance(failure, RayTaskError):
        return isinstance(failure.cause, BaseException) and is_loss(failure.cause)
    if ranks := getattr(failure, "worker_failures", None):  # Ray Train's WorkerGroupError
        return all(is_loss(each) for each in ranks.values())
    for within in ("controller_failure", "health_check_failure"):  # its other errors around one
        if isinstance(cause := getattr(failure, within, None), BaseException):
            return is_loss(cause)
    if isinstance(failure, LossError | RayActorError | WorkerCrashedError | NodeDiedError | ObjectLostError):
        return True
    text = str(failure)
    if type(failure) is ValueError:
        return text.startswith(_NO_ACTOR)
    return _of_ranks(failure) and any(words in text.lower() for words in _CONNECTION)


def _of_ranks(failure: BaseException) -> bool:
    """Whether it comes from torch.distributed, gloo or NCCL."""
    if type(failure).__module__ == "torch.distributed":
        return True
    return type(failure) is RuntimeError and any(name in str(failure).lower() for name in _TRANSPORTS)


def wait_s(first: float, attempt: int) -> float:
    """Seconds to wait before an attempt: none before attempt 1, `first` before attempt 2, doubled each time,
    60 at most.
    """
    return float(min(_LONGEST_WAIT_S, first * 2 ** (attempt - 2))) if attempt > 1 else 0.0
