"""HTTP requests to other services: over few connections that are reused, and repeated where that can help.

A request is repeated after 429, 502, 503, 504 and broken connections, with growing, jittered pauses or the
one that ``Retry-After`` asks for, and after nothing else: a certificate that is not trusted stays so. An
attempt that reaches its limit counts as a broken connection: a machine that vanished sends no word of
it, so silence is all that there is to see. There are two limits: for one attempt, and for all of them
together. So only what has no side effects may be asked through here.
"""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import httpx
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type
from tenacity.wait import wait_random_exponential

from rlad_core.client.bearer import authorization
from rlad_core.client.errors import InvalidRequestError, LimitError, ServiceError, UnknownNameError
from rlad_core.client.plain_json import encoded
from rlad_core.client.silence import Silence
from rlad_core.proxies import through
from rlad_core.waiting import limit

RETRIED_STATUSES = frozenset({429, 502, 503, 504})
# Not every TransportError: a malformed header or address stays what it is.
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)
_HIGHEST_PORT = 2**16 - 1
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")  # what OpenSSL says of plain HTTP, by its version
_jittered = wait_random_exponential(multiplier=0.5, max=20)


class UnauthorizedError(ServiceError):
    """The token was refused."""

    status = 401
    title = "Not authorized"


class _RetryableError(Exception):
    def __init__(self, what: str, after_s: float | None = None) -> None:
        super().__init__(what)
        self.after_s = after_s


class Endpoint:
    """A service at a URL; to be used on one event loop.

    Args:
        url: under which its routes are.
        token: sent as a bearer token.
        call_timeout_s: limit of one attempt, from its first byte to its last.
        timeout_s: limit of a request with all its attempts, from when it gets one of the connections.
        connections: requests under way at a time.
        say: told while the service does not answer, see `Silence`.

    Raises:
        ValueError: the token cannot be sent in a header, or there are no connections.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        call_timeout_s: float = 120.0,
        timeout_s: float = 600.0,
        connections: int = 8,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if connections < 1:
            raise ValueError(f"{connections} connections to {url}: nothing can be asked over fewer than one")
        # Packed answers cost a service more time than they save on the networks between training and it.
        headers = {b"Accept-Encoding": b"identity"}
        if token:
            headers[b"Authorization"] = authorization(token)
        self.url = url.rstrip("/")
        self._call_timeout_s = call_timeout_s
        self._timeout_s = timeout_s
        self._connections = connections
        self._places = asyncio.Semaphore(connections)
        self._waiting = 0
        self._at_work = 0
        self._silence = Silence(self.url, say)
        self._http = httpx.AsyncClient(
            headers=headers,
            # httpx limits each silence; an attempt as a whole is limited in `_once`.
            timeout=httpx.Timeout(None, connect=min(10.0, call_timeout_s)),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        what: str,
        content: bytes | None = None,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """A successful answer.

        Args:
            what: is asked for, for errors; names the sequences.
            json: see `encoded`.

        Raises:
            InvalidRequestError, LimitError, UnknownNameError, UnauthorizedError, ServiceError: what the
                service refused or failed, in its own words, or why it cannot be asked at all; with endpoint
                and ``what``.
            TimeoutError: no success within ``timeout_s``; names endpoint, last fault and ``what``.
        """
        url = self.url + path
        if json is not None:
            content = encoded(json, f"what {method} {url} is asked, {what},")
            headers = {"Content-Type": "application/json", **(headers or {})}
        async with self._connection(what):
            last = "no answer yet"
            attempts = 0
            all_attempts = asyncio.timeout(self._timeout_s)
            try:
                async with all_attempts:
                    async for attempt in AsyncRetrying(
                        retry=retry_if_exception_type(_RetryableError), wait=_pause, reraise=True
                    ):
                        with attempt:
                            attempts += 1
                            begun = time.monotonic()
                            try:
                                answer = await self._once(
                                    method, url, what, content=content, params=params, headers=headers
                                )  # fmt: skip
                                self._silence.over()
                                return answer
                            except _RetryableError as error:
                                last = str(error)
                                self._silence.failed(last, begun)
                                raise
            except TimeoutError as error:
                if not all_attempts.expired():
                    raise
                raise TimeoutError(
                    f"{method} {url} did not succeed{through(url)} within {self._timeout_s:g} s in "
                    f"{attempts} attempts, for {what}; the last one ended with: {last}"
                ) from error
        raise AssertionError("the attempts do not end by themselves")

    async def close(self) -> None:
        """Close the connections."""
        self._silence.close()
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def _connection(self, what: str) -> AsyncIterator[None]:
        """One of the connections, until the block ends.

        Each is given back within ``timeout_s``. So a turn comes after that time for each round of requests
        ahead of it, and the wait is limited to one round more.
        """
        rounds = 2 + self._waiting // self._connections
        self._waiting += 1
        try:
            wanted = f"one of the {self._connections} connections to {self.url}, for {what}"
            async with limit(rounds * self._timeout_s, wanted):
                await self._places.acquire()
        finally:
            self._waiting -= 1
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._silence.close()  # nobody waits for it
            self._places.release()

    async def _once(self, method: str, url: str, what: str, **sent: Any) -> httpx.Response:
        """One attempt.

        Raises:
            _RetryableError: another one may succeed.
            ServiceError: it will not.
        """
        attempt = asyncio.timeout(self._call_timeout_s)
        try:
            async with attempt:
                if (httpx.URL(url).port or 0) > _HIGHEST_PORT:  # of which the event loop raises what it likes
                    raise httpx.InvalidURL(f"ports are from 1 to {_HIGHEST_PORT}")
                answer = await self._http.request(method, url, **sent)
        except _BROKEN as error:
            if (fault := _tls_fault(error)) is not None:
                raise ServiceError(f"{method} {url} cannot be asked for {what}: {fault}") from error
            raise _RetryableError(f"{type(error).__name__} {error}".strip()) from error
        except TimeoutError as error:
            if not attempt.expired():
                raise
            raise _RetryableError(f"no whole answer within {self._call_timeout_s:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceError(
                f"{method} {url} cannot be asked for {what}: {type(error).__name__} {error}"
            ) from error
        if answer.status_code in RETRIED_STATUSES:
            raise _RetryableError(f"status {answer.status_code}, {_said(answer)}", _retry_after_s(answer))
        if not answer.is_success:
            raise _refusal(method, url, what, answer)
        return answer


def _tls_fault(error: BaseException | None) -> str | None:
    """What keeps two sides from speaking TLS, which no repetition mends; None: it is something else."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message}); where it is right, let SSL_CERT_FILE "
            "name a file with it, or with that of who signed it"
        )
    if error is not None and error.reason in _NO_TLS:
        return "it does not answer HTTPS; write http://"
    return None


def _pause(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    after_s = getattr(error, "after_s", None)
    jitter = _jittered(state)
    # Jitter on top of what was asked for, so that many clients do not come back at once.
    return jitter if after_s is None else after_s + min(1.0, jitter)


def _retry_after_s(answer: httpx.Response) -> float | None:
    """``Retry-After`` in seconds; it is a number of them or a date (RFC 9110, 10.2.3)."""
    value = answer.headers.get("retry-after")
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        then = parsedate_to_datetime(value)
        if then.tzinfo is None:  # as C's asctime writes one, which is a date too (5.6.7)
            then = then.replace(tzinfo=UTC)
        return max(0.0, (then - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None


def _refusal(method: str, url: str, what: str, answer: httpx.Response) -> ServiceError:
    said = f"{method} {url} answered {answer.status_code}: {_said(answer)} (asked for {what})"
    if answer.status_code == 413:
        return LimitError(None, said)
    kinds: dict[int, type[ServiceError]] = {
        401: UnauthorizedError,
        404: UnknownNameError,
        400: InvalidRequestError,
        422: InvalidRequestError,
    }
    refusal = kinds.get(answer.status_code, ServiceError)(said)
    refusal.status = answer.status_code
    return refusal


def _said(answer: httpx.Response) -> str:
    """The reason in the service's words: a problem's detail, an OpenAI error's message, or the body."""
    try:
        body = answer.json()
        error = body.get("error", body)
        return str(error.get("detail") or error.get("message") or body)[:500]
    except (ValueError, AttributeError):
        return answer.text[:500]
