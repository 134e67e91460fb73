"""How much one caller may ask for in a minute."""

import time
from collections.abc import Callable

from pydantic import BaseModel, ConfigDict, Field

from rlad_core.client.errors import BusyError

_MINUTE = 60.0
_MOST_KNOWN = 10_000


class QuotaError(BusyError):
    """The caller has had what it may have; to be asked again."""

    title = "The quota is used up"
    limit = "quota"


class Quota(BaseModel):
    """What one caller, known by its token or else its address, may ask of one replica over HTTP."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_minute: int | None = Field(default=None, gt=0)
    work_per_minute: int | None = Field(
        default=None,
        gt=0,
        description="Tokens of a teacher; tokens of prompts and longest responses of rollouts; responses of "
        "a verifier. A request for more than a minute's is taken when nothing was asked for a minute.",
    )


class Quotas:
    """What each caller has left: buckets that fill up within a minute.

    Args:
        quota: of each.
        clock: seconds.
    """

    def __init__(self, quota: Quota, clock: Callable[[], float] = time.monotonic) -> None:
        self._quota = quota
        self._clock = clock
        # What was taken and has not been filled up since, and when that was looked at.
        self._owed: dict[tuple[str, str], tuple[float, float]] = {}

    def take(self, caller: str, *, requests: int = 0, work: float = 0) -> None:
        """Take from a caller's quota.

        Raises:
            QuotaError: there is not so much left; says when there will be. Nothing is taken then.
        """
        for kind, amount, most in (
            ("requests", requests, self._quota.requests_per_minute),
            ("work", work, self._quota.work_per_minute),
        ):
            if most is not None and amount:
                self._take((caller, kind), float(amount), most)

    def _take(self, key: tuple[str, str], amount: float, most: int) -> None:
        now = self._clock()
        before, then = self._owed.get(key, (0.0, now))
        owed = max(0.0, before - (now - then) * most / _MINUTE)
        if owed and owed + amount > most:
            left = (owed + min(amount, most) - most) * _MINUTE / most
            raise QuotaError(
                f"{key[1]}: {most} a minute are this caller's, and they are used up", max(left, 1.0)
            )
        if len(self._owed) >= _MOST_KNOWN:
            self._owed = {k: v for k, v in self._owed.items() if now - v[1] < _MINUTE}
        self._owed[key] = (owed + amount, now)
