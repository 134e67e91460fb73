"""What Serve's routers in a proxy know: whether a service has a replica, and which requests wait for one.

A router is told at once that the process of a replica is gone, whether that was at work or not: by what it
had asked of it, by its next look at it, or by Serve's controller. Serve tells nobody, and lets requests wait.
"""

import contextvars
from typing import Any

from ray.serve.context import _serve_request_context
from starlette.types import ASGIApp


class Routers:
    """Those of the proxy behind an ASGI application; of no proxy, it says of nothing that it has no replica.

    Args:
        app: Serve's proxy, or middleware before it.
    """

    def __init__(self, app: ASGIApp) -> None:
        while not hasattr(app, "proxy_router") and hasattr(app, "_app"):
            app = app._app
        self._routes: Any = getattr(app, "proxy_router", None)

    def has_no_replica(self, path: str) -> bool:
        """Whether the service of a path has none, though it is meant to have one at all times."""
        asked = self._asked(path)
        return asked is not None and not asked.curr_replicas and not self._may_have_none(path)

    def is_waiting(self, path: str, context: contextvars.Context) -> bool:
        """Whether a request waits for a replica; else one is at work on it, and may be about to end.

        Args:
            path: of the request.
            context: that Serve's proxy works on it in.
        """
        asked, request = self._asked(path), context.get(_serve_request_context)
        return (
            asked is not None
            and request is not None
            and request._internal_request_id in asked._pending_requests_by_id
        )

    def _asked(self, path: str) -> Any:
        """The part of a service's router that chooses replicas; None: there is none yet."""
        return getattr(self._router(path), "_request_router", None)

    def _may_have_none(self, path: str) -> bool:
        """Whether the service ends its last replica while nobody asks (``min_replicas: 0``)."""
        scaling = self._router(path)._metrics_manager.autoscaling_config
        return scaling is not None and scaling.min_replicas == 0

    def _router(self, path: str) -> Any:
        found = self._routes.match_route(path) if self._routes is not None else None
        return getattr(found[1]._router, "_asyncio_router", None) if found is not None else None
