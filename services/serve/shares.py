"""Room for what waits in a replica, of which no caller takes so much that the others find none."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rlad_core.client.errors import BusyError
from services.serve.fair import OWN, asker

MOST_OF_FREE = 7.0
"""Times what is left free, where one caller alone may come to seven eighths."""


class QueueShares:
    """A limit of what waits, and each caller's share of it; jobs take the room of those who handed them in.

    Who has something here gets more as long as that is no more than what is left free then, times its weight:
    one caller alone comes to half of the room, two to a third each (dynamic thresholds: Choudhury and Hahne,
    Dynamic queue length thresholds for shared-memory packet switches, 1998). So there is room for who comes
    next without a share that is kept empty for each.

    Args:
        most: that may wait.
        weights: by caller; 1 for those that are not named.
        what: is counted, for the error: "tokens wait".
        each: of a request, for the error: "tokens".
        retry_after_s: when to ask again.
        times: what is left free a caller may have.
    """

    def __init__(
        self,
        most: int,
        weights: Mapping[str, float],
        what: str,
        each: str,
        retry_after_s: float,
        times: float = 1.0,
    ) -> None:
        self._most = most
        self._weights = weights
        self._what, self._each = what, each
        self._retry_after_s = retry_after_s
        self._times = times
        self._own: dict[str, int] = {}

    @contextmanager
    def taken(self, size: int, waiting: int) -> Iterator[None]:
        """Room for a request until it is answered. A lone one is always taken, however small the room is.

        Args:
            size: of the request.
            waiting: that is here before it, of all callers.

        Raises:
            BusyError: it would be more than there is room for, or than is the caller's.
        """
        caller = asker().caller
        own = self._own.get(caller, 0)
        if waiting and waiting + size > self._most:
            raise BusyError(
                f"{waiting} {self._what} here, and with these {size} it would be more than {self._most}",
                retry_after_s=self._retry_after_s,
            )
        # With those that are let in and are still on their way to the queue.
        free = self._most - max(waiting, sum(self._own.values()))
        share = self._weights.get(caller, 1.0) * self._times * free
        # The run that a service belongs to has nobody to leave room for.
        if own and own + size > share and caller != OWN:
            raise BusyError(
                f"{own} {self._each} of yours are here, and with these {size} it would be more than the "
                f"{max(0, int(share))} that are left for each caller now; {self._most} are the most of all",
                retry_after_s=self._retry_after_s,
            )
        self._own[caller] = own + size
        try:
            yield
        finally:
            # Not there any more where a request of size 0 goes last: the one before has left nothing.
            if left := self._own.get(caller, 0) - size:
                self._own[caller] = left
            else:
                self._own.pop(caller, None)
