"""kill -9 of Serve's proxy in the middle of requests."""

import time

import httpx

from tests.abuse.losing import under_way
from tests.abuse.target import Effort, Target

_WITHIN_S = 30.0
"""Most of it is for the new proxy's start; as Serve comes, it would first look for 30 s."""
SENT = "kill -9 of Serve's proxy in the middle of requests"


def attack(target: Target, effort: Effort) -> str:
    """The connection breaks, and our client repeats its request."""
    [proxy] = target.processes("ProxyActor")
    with under_way(target, "teacher") as (plain, repeated):
        began = time.monotonic()
        proxy.kill()
        error = plain.exception()
        assert isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError), error
        repeated.result()
        repeated_s = time.monotonic() - began
    assert repeated_s < _WITHIN_S, repeated_s
    return f"{type(error).__name__} at once; repeated by the client, and right after {repeated_s:.0f} s"
