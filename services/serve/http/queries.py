"""A URL's query, within what may be read of it on the event loop.

FastAPI looks through all of a query once for each name in it that a route does not know: 64 KB of short names
take seconds, in which nothing else is answered. So the length of a query and the number of its names are
looked at first, by the proxy and by the service itself.
"""

from starlette.datastructures import QueryParams
from starlette.types import Scope

from rlad_core.client.errors import ServiceError

MOST_BYTES = 32_768
"""The longest query that makes sense names 1,024 end tokens of ten digits each, in 25,600 bytes."""
MOST_NAMES = 64
"""No route has a quarter of that."""


class LongQueryError(ServiceError):
    """A URL asks for more than may be read of one (RFC 9110, 15.5.15)."""

    status = 414
    title = "The URL is too long"
    limit = "query"


def long_query(scope: Scope) -> LongQueryError | None:
    """Why a request's query is not read; None: it may be."""
    query: bytes = scope.get("query_string", b"")
    if len(query) > MOST_BYTES:
        return LongQueryError(f"the query has {len(query)} bytes; at most {MOST_BYTES} are taken")
    if query.count(b"&") < MOST_NAMES:
        return None
    # As they are written: no fewer than what they come to.
    names = len({pair.partition(b"=")[0] for pair in query.split(b"&")})
    if names > MOST_NAMES:
        return LongQueryError(f"the query has {names} names; at most {MOST_NAMES} are taken")
    return None


def values_of(query: QueryParams) -> dict[str, list[str]]:
    """The values of each name, in the order of the URL; seen once, however many there are."""
    found: dict[str, list[str]] = {}
    for name, value in query.multi_items():
        found.setdefault(name, []).append(value)
    return found
