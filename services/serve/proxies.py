"""Serve's proxies, which answer HTTP: asked from outside, as no request can."""

from __future__ import annotations

from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

from services.serve.http.slow_clients.unsent import UNSENT

_ANSWER_S = 10.0


def unsent_answers(before: float) -> int | None:
    """How many answers the proxies of this machine have not sent whole, see `Unsent.count`; None: they do not
    say.
    """
    try:
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        proxies = ray.get(controller.get_proxies.remote(), timeout=_ANSWER_S)
        asked = [proxy.__ray_call__.remote(_unsent, before) for proxy in proxies.values()]
        return sum(ray.get(asked, timeout=_ANSWER_S))
    except GetTimeoutError:
        return None
    except (ValueError, RayActorError):  # there is none any more, and nothing of what it had
        return 0


def _unsent(_proxy: Any, before: float) -> int:
    return UNSENT.count(before)
