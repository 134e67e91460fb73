"""Addresses of services as recipes and commands name them: what is before the routes, which are added."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

_ROUTE: Final = re.compile(
    r"(/inference)?/v1(/.*)?$|/(docs|openapi\.json|metrics|healthz?|readyz|get_sequence_logprobs)/?$"
)
"""Of our services and of vLLM's server: all that is asked for begins with /v1, or is one of a few more."""
_ROUTE_BELOW_V1: Final = re.compile(r"/((chat/)?completions|models|responses)/?$")


def is_url(text: str) -> bool:
    """Whether it is meant as an address."""
    return text.startswith(("http://", "https://"))


def address_of(url: str) -> str:
    """The address of a service, as it was given.

    Raises:
        ValueError: it is none, or has a route already; says what to write.
    """
    return _without(_ROUTE, url)


def endpoint_address_of(url: str) -> str:
    """The address of an OpenAI-compatible endpoint, which may end in /v1 as those of OpenAI's client do.

    Raises:
        ValueError: as for `address_of`.
    """
    return _without(_ROUTE_BELOW_V1, url)


def _without(routes: re.Pattern[str], url: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = is_url(url) and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket that is not closed, a port that is no number
        is_address = False
    if not is_address:
        raise ValueError("is no address. Write http://HOST:PORT or https://HOST")
    if route := routes.search(parts.path):
        before = f"{parts.scheme}://{parts.netloc}{parts.path[: route.start()]}"
        raise ValueError(f"ends in a route ({route[0]}), and routes are added to it. Write {before}")
    return url
