"""Who asks, and whether from this machine: what stands in a request's headers about where it comes from.

Without tokens a service serves its own machine alone. That a connection comes from the loopback interface
does not say so much: a web page can make the browser that shows it send requests there (cross-site posts),
under a name of its own if its DNS server answers with 127.0.0.1 (rebinding), and a reverse proxy passes on
what others send. So a request counts as this machine's only if it also names this machine as its host, comes
from no other site's page, and through no proxy that nobody told us of:

========================  ====================================================================================
``RLAD_ALLOWED_HOSTS``    names in ``Host`` that are this service's besides localhost and 127.0.0.1
``RLAD_ALLOWED_ORIGINS``  sites whose pages may ask and read the answer, such as http://localhost:3000
``FORWARDED_ALLOW_IPS``   addresses of reverse proxies whose ``X-Forwarded-For`` is believed (uvicorn's own)
========================  ====================================================================================
"""

import hashlib
import ipaddress
import os
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from services.serve.http.auth import bearer, is_loopback

HOSTS, ORIGINS, PROXIES = "RLAD_ALLOWED_HOSTS", "RLAD_ALLOWED_ORIGINS", "FORWARDED_ALLOW_IPS"
REQUEST_ID = "x-request-id"
_ID = re.compile(r"[!-~]{1,128}")
_TOLD_TO_PAGES = "Content-Range, ETag, Location, Retry-After, X-Request-ID"
_ASKED_WITH = "Accept, Authorization, Content-Encoding, Content-Type, X-Request-ID"
_NAMES = re.compile(r"[A-Za-z0-9_-]+(, ?[A-Za-z0-9_-]+){0,63}")
_FORWARDED = ("forwarded", "via", "x-real-ip")
_FORWARDED_BEGIN = "x-forwarded-"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{0,5})?", re.IGNORECASE)


def bounded_id(headers: Headers) -> str | None:
    """The request's ``X-Request-ID``; None where there is none, or one that is no short word."""
    given = headers.get(REQUEST_ID, "")
    return given if _ID.fullmatch(given) else None


def address_of(scope: Scope) -> str:
    """Where a request comes from; empty where that is unknown."""
    return str((scope.get("client") or ("",))[0])


def caller_of(scope: Scope, headers: Headers, with_tokens: bool) -> str:
    """Whom a request counts for: its token, which is not told, else its address.

    Args:
        with_tokens: whether a token was looked at.
    """
    if with_tokens and (given := headers.get("authorization")):
        # In one spelling, so that a token is one caller in whichever of those that are let in it is sent.
        token = bearer(given)
        spelled = given.encode("latin-1", "replace") if token is None else b"Bearer " + token
        return "token:" + hashlib.sha256(spelled).hexdigest()[:12]
    return address_of(scope)


def stranger(scope: Scope, headers: Headers) -> tuple[int, str] | None:
    """Why a request is not this machine's own: a status, and what to do; None: it is."""
    address = address_of(scope)
    if not is_loopback(address):
        return 401, f"only this machine is served, and not {address or 'others'}"
    if (via := _told_by_a_proxy(headers)) and not (os.environ.get(PROXIES) and _is_believed(scope)):
        return 401, (
            f"only this machine is served, and the header {via} tells of a proxy in between that is not "
            f"named by {PROXIES}"
        )
    host = headers.get("host", "")
    name = _name(host)
    if not name or not (is_loopback(name) or _is_listed(name)):
        return 403, f"only this machine is served, and {host[:100]!r} is no name of it (see {HOSTS})"
    return _other_page(headers)


def odd_prober(headers: Headers) -> tuple[int, str] | None:
    """Likewise of a question for health, which probes ask from elsewhere, by an address or without a name."""
    host = headers.get("host", "")
    name = _name(host)
    if host and not (name == "localhost" or _is_address(name) or _is_listed(name)):
        return 403, f"{host[:100]!r} is no address and no name of this service (see {HOSTS})"
    return _other_page(headers)


def _other_page(headers: Headers) -> tuple[int, str] | None:
    origin = headers.get("origin")
    if origin is None or site_of(headers) is not None:
        return None
    if _site(origin) == headers.get("host", "").lower():
        return None
    return 403, f"pages of {origin[:100]!r} may not ask here (see {ORIGINS})"


def _is_listed(name: str) -> bool:
    listed = _listed(HOSTS)
    return name in listed or name in map(_name, listed)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def site_of(headers: Headers) -> str | None:
    """Whose page asks, where it is one that may; None: no page, or another's."""
    origin = headers.get("origin")
    # As people write addresses; a browser names a site without the slash.
    sites = {site.rstrip("/") for site in _listed(ORIGINS)}
    return origin if origin is not None and origin.lower() in sites else None


def is_preflight(method: str, headers: Headers) -> bool:
    """Whether a browser asks if its page may ask; it sends no token with that."""
    return method == "OPTIONS" and "access-control-request-method" in headers


def for_pages(headers: Headers, send: Send) -> Send:
    """What sends an answer to a request with these headers, and tells a browser whether the page that asks
    may read it, or may ask (the Fetch standard, 3.3). Proxy and service each answer for themselves: what is
    told already stays as it is.
    """
    if (site := site_of(headers)) is None:
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            # Names of headers that it would ask with; clients have some of their own, such as OpenAI's.
            _let_read(message, site, headers.get("access-control-request-headers", ""))
        await send(message)

    return sending


def _let_read(start: Message, site: str, asked_with: str) -> None:
    headers = MutableHeaders(scope=start)
    if "access-control-allow-origin" in headers:
        return
    headers["Access-Control-Allow-Origin"] = site
    headers["Access-Control-Expose-Headers"] = _TOLD_TO_PAGES
    headers.add_vary_header("Origin")
    if "allow" in headers:
        headers["Access-Control-Allow-Methods"] = headers["allow"]
        headers["Access-Control-Allow-Headers"] = asked_with if _NAMES.fullmatch(asked_with) else _ASKED_WITH


def _told_by_a_proxy(headers: Headers) -> str | None:
    """A header that a proxy adds to what it passes on; None: there is none."""
    return next((name for name in headers if name in _FORWARDED or name.startswith(_FORWARDED_BEGIN)), None)


def _is_believed(scope: Scope) -> bool:
    """Whether uvicorn has put the address in ``X-Forwarded-For`` in the place of the proxy's own, which it
    does for proxies of `PROXIES` alone. A connection comes from a port, and what a header tells has none.
    """
    return (scope.get("client") or ("", 0))[1] == 0


def _name(host: str) -> str:
    """The name in ``Host`` without its port; empty where it is none."""
    found = _HOST.fullmatch(host)
    return found[1].strip("[]").lower().rstrip(".") if found else ""


def _site(origin: str) -> str:
    """Name and port in ``Origin``; empty where it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""


def _listed(variable: str) -> set[str]:
    return set(os.environ.get(variable, "").lower().replace(",", " ").split())
