"""kill -9 of Serve's proxy in the middle of requests."""

import time

import httpx

from tests.abuse.losing import under_way
from tests.abuse.target import Effort, Target

SENT = "kill -9 of Serve's proxy in the middle of requests"
_WITHIN_S = 30.0
"""Most of it is for the new proxy's start; as Serve comes, it would first look for 30 s."""


def attack(target: Target, effort: Effort) -> str:
    """The connection breaks, others are served within seconds, and our client repeats its request."""
    target.expected("verifier")
    [proxy] = target.processes("ProxyActor")
    with under_way(target, "teacher") as (plain, repeated):
        began = time.monotonic()
        proxy.kill()
        error = plain.exception()
        assert isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError), error
        back_s = target.wait_until_right("verifier", _WITHIN_S)
        repeated.result()
        repeated_s = time.monotonic() - began
    return (
        f"{type(error).__name__} at once; others are served after {back_s:.0f} s; "
        f"repeated by the client, and right after {repeated_s:.0f} s"
    )
