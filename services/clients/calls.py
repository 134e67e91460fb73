"""Calls to deployments: limits that name what was waited for, retries where they are harmless, and nothing
that goes on when its caller has left."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

from ray.exceptions import ActorDiedError, ActorUnavailableError, ObjectLostError, WorkerCrashedError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError
from ray.serve.handle import DeploymentHandle, DeploymentResponse, DeploymentResponseGenerator
from tenacity import AsyncRetrying, retry_if_exception_type, wait_random_exponential

from services.base import tracing

Result = TypeVar("Result")

TRANSIENT = (
    ActorDiedError,
    ActorUnavailableError,
    WorkerCrashedError,
    ObjectLostError,
    BackPressureError,
    DeploymentUnavailableError,
)
"""A replica is gone, or its host with its answer, or it is full. Serve starts another; our requests are
idempotent, so asking again is safe."""


async def call(
    method: DeploymentHandle,
    *args: Any,
    timeout_s: float,
    what: str,
    also: tuple[type[Exception], ...] = (),
    **kwargs: Any,
) -> Any:
    """Call a deployment's method, again if its replica went away, until it answers.

    Args:
        method: such as ``handle.score``.
        timeout_s: limit for all attempts together.
        what: what is waited for, for the error.
        also: further errors after which it is asked again.

    Raises:
        TimeoutError: naming ``what`` and the last fault; or the deployment's own, as it is.
    """
    args = tuple(tracing.carry(value) for value in args)

    async def attempt() -> Any:
        response = method.remote(*args, **kwargs)
        with leaving(response):
            return await response

    return await again(attempt, timeout_s=timeout_s, what=what, also=also)


@contextlib.contextmanager
def leaving(response: DeploymentResponse | DeploymentResponseGenerator) -> Iterator[None]:
    """Have the replica leave the request as well where the caller is cancelled, as a time limit does too.

    Awaiting alone does not: the replica would go on to the end, for nobody.
    """
    try:
        yield
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):  # with which the request may have ended just now
            response.cancel()
        raise


async def again(
    attempt_it: Callable[[], Awaitable[Result]],
    *,
    timeout_s: float,
    what: str,
    also: tuple[type[Exception], ...] = (),
) -> Result:
    """The same for whatever is attempted."""
    last: BaseException | None = None
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type((*TRANSIENT, *also)),
                wait=wait_random_exponential(multiplier=0.5, max=10),
                reraise=True,
            ):
                with attempt:
                    try:
                        return await attempt_it()
                    except (*TRANSIENT, *also) as error:
                        last = error
                        raise
    except TimeoutError as error:
        if not limit.expired():  # the deployment gave up on something that it waited for itself
            raise
        because = f"; the last attempt ended with {type(last).__name__}: {last}" if last else ""
        raise TimeoutError(f"waited {timeout_s:g} s for {what}{because}") from error
    raise AssertionError("attempts end with an answer or an error")
