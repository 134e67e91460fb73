"""Asking an actor from synchronous code: a limit that names what was waited for, and the actor's error."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayTaskError


def answer_of(
    reference: Any,
    *,
    timeout_s: float,
    what: str,
    meanwhile: Callable[[], None] = lambda: None,
    every_s: float | None = None,
) -> Any:
    """An actor's answer, or those of several.

    Args:
        reference: what `remote` gave, or a list of that.
        timeout_s: limit for all of them.
        what: is waited for, for the error.
        meanwhile: called after each `every_s` seconds without an answer; None: never.

    Raises:
        TimeoutError: naming `what`; or what the actor's method raised, with its process's stack as cause.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        left_s = max(0.0, deadline - time.monotonic())
        try:
            return ray.get(reference, timeout=left_s if every_s is None else min(every_s, left_s))
        except GetTimeoutError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"waited {timeout_s:g} s for {what}") from error
        except RayTaskError as error:
            raise error.cause from error
        meanwhile()
