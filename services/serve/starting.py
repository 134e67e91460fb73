"""Waiting for Serve applications to come up: within one limit, told from time to time, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from services.base.failures import plain
from services.serve.states import State, application_states

_PROXY = "Serve (which answers HTTP)"
_POLL_S = 0.25
_TELL_EVERY_S = 10.0


class DeploymentError(Exception):
    """A service did not start; the message is for the person who started it.

    Attributes:
        whole: what Serve says of it, with the stacks of its processes.
    """

    def __init__(self, message: str, whole: str = "") -> None:
        super().__init__(message, whole)
        self.whole = whole

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class Limit:
    """Of all that is waited for, from now on, and where it is set."""

    seconds: float
    setting: str
    began: float = field(default_factory=time.monotonic)

    @property
    def waited_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def is_over(self) -> bool:
        return self.waited_s > self.seconds

    def over_for(self, what: str) -> str:
        """The error's words."""
        return f"waited {self.seconds:g} s for {what} ({self.setting})"


class Starting:
    """Applications on their way up.

    Args:
        names: of them.
        start: Serve's own start.
        limit: of all waiting.
        say: told which of them are up and which are waited for.
        scheme: that they are reached by.
    """

    def __init__(
        self,
        names: Sequence[str],
        start: Future[Any],
        limit: Limit,
        say: Callable[[str], None],
        scheme: str,
    ) -> None:
        self._names, self._start, self._limit, self._say, self._scheme = names, start, limit, say, scheme
        self._waiting = [_PROXY, *names]
        self._told_s = 0.0

    def wait_for_one(self) -> None:
        """Until one of them is up, if there are any.

        Raises:
            DeploymentError: see `wait`.
        """
        while self._names and all(name in self._waiting for name in self._names):
            self._look()

    def wait(self) -> str:
        """Until all are up and answer HTTP.

        Returns:
            The URL that their routes are under: another one than was asked for, where Serve was up already.

        Raises:
            DeploymentError: one failed to start, or is not up in time; says why.
        """
        while self._waiting:
            self._look()
        return f"{self._scheme}://{_answers_on()}"

    def _look(self) -> None:
        """See which are up; then a moment's wait, where not all are."""
        states = application_states()
        waiting = [name for name in self._names if name not in states or states[name].status != "RUNNING"]
        if not self._start.done():
            waiting = [_PROXY, *waiting]
        else:
            self._start.result()
        waited_s = self._limit.waited_s
        for name in self._waiting:
            if name not in waiting:
                self._say(f"{name} is up after {waited_s:.1f} s")
        self._waiting = waiting
        if not waiting:
            return
        if waited_s - self._told_s > _TELL_EVERY_S:
            self._told_s = waited_s
            since = f"since {waited_s:.0f} s, at most {self._limit.seconds:g} s ({self._limit.setting})"
            self._say(f"waiting for {', '.join(waiting)} {since}")
        self._refuse_failed(states)
        time.sleep(_POLL_S)

    def _refuse_failed(self, states: Mapping[str, State]) -> None:
        waiting = [name for name in self._waiting if name in states]
        for name in waiting:
            if states[name].status in ("DEPLOY_FAILED", "UNHEALTHY"):
                whole = states[name].reason
                raise DeploymentError(f"the service {name} did not start: {plain(whole)}", whole)
        if self._limit.is_over:
            reasons = {name: states[name].reason for name in waiting}
            raise DeploymentError(
                f"{self._limit.over_for(', '.join(self._waiting))}; "
                + "; ".join(f"{name}: {plain(reason)}" for name, reason in reasons.items()),
                "\n".join(reasons.values()),
            )


def _answers_on() -> str:
    """Where Serve's proxy listens: on what was asked for, unless it was up before."""
    from ray.serve.context import _get_global_client

    http = _get_global_client().http_config
    return f"[{http.host}]:{http.port}" if ":" in str(http.host) else f"{http.host}:{http.port}"
