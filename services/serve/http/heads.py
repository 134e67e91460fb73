"""Heads of requests within a size and a time: what comes before anything of ours is asked.

uvicorn keeps whatever a head holds until it ends, and its parser copies what it has of a header with every
piece that comes of it. So one header of 48 MiB takes seconds, and many headers take memory, from whoever has
a connection. `BoundedHeads` counts what comes of a head, and of a chunked body's trailers, which are kept in
the same way, and answers 431 in place of reading on. Bodies are not counted here
(`services.serve.http.reading`). It also refuses heads of which two readers could make two requests, and those
that want no HTTP; other protocols that are offered are ignored (`services.serve.http.offers`).
"""

import asyncio
from http import HTTPStatus
from typing import Any

import orjson
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.base import telemetry
from services.serve.http.offers import OffersIgnored, offers_a_web_socket
from services.serve.http.problems import MEDIA_TYPE, ProblemDetails
from services.serve.http.reading import BodyLimits
from services.serve.http.refusals import PROXY, count_refusal

MOST_BYTES = 65_536
"""Of a head; browsers and other servers go up to 8 or 16 KiB. A query may have half of it."""
MOST_HEADERS = 100
"""Browsers send some twenty, proxies in between a few each."""
MOST_IN_A_ROW = 100
"""Requests of one connection that wait for the answer to an earlier one; uvicorn keeps all that it reads."""
_NO_HTTP = "This is no HTTP request"
_BROKEN_BODY = "its body is not the chunks of Transfer-Encoding: chunked, and no other encoding is read"
_AUTO = "uvicorn.protocols.http.auto:AutoHTTPProtocol"
_HOOKS = (
    "connection_made",
    "connection_lost",
    "data_received",
    "send_400_response",
    "on_message_begin",
    "on_url",
    "on_header",
    "on_headers_complete",
    "on_body",
    "on_message_complete",
    "on_response_complete",
)


class _LargeHeadError(Exception):
    """Raised into the parser, which gives up the connection."""


class _UnfitHeadError(Exception):
    """The same of a head that no request is made of; why not."""


class BoundedHeads(HttpToolsProtocol):
    """A connection whose heads are within limits.

    Attributes:
        timeout_s: within which a head must be whole, from when its first byte was waited for on a new
            connection, and from its first byte on one that is used again.
    """

    timeout_s = BodyLimits().timeout_s

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = OffersIgnored(self)  # type: ignore[assignment]
        self._is_head = True  # what comes next: a head, a chunk's head or trailers, and no body
        self._begun = False
        self._come = 0  # bytes since then, of which the parser has told nothing yet
        self._told = self._headers_told = 0
        self._is_large = False
        self._unfit: ProblemDetails | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None  # of a body that goes on behind its answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._whole()
        self._read_to_its_end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless what came of a head is too much."""
        if self._is_head:
            self._come += len(data)
        super().data_received(data)
        # In a piece that ends one thing and begins the next no more can lie than a connection reads at once.
        if self._is_head and not self.transport.is_closing():
            if self._come > MOST_BYTES:
                self._refuse()
            elif self._come or self._begun:
                self._wait()

    def send_400_response(self, msg: str) -> None:
        """What the parser gave up is too large, or no HTTP."""
        if self._is_large:
            self._refuse()
            return
        is_body = self._unfit is None and self._is_answering and self.cycle.more_body
        kind = "MalformedBodyError" if is_body else "MalformedHeadError"
        count_refusal(PROXY, kind if self._unfit is None else "UnfitHeadError")
        if self._is_answering and not self.cycle.more_body:
            # What had come whole is answered, and then the connection ends. Who counts a body's length in
            # characters leaves such a rest behind it, and is to read what is wrong.
            self.cycle.keep_alive = False
            return
        detail = _BROKEN_BODY if is_body else msg
        self._close(self._unfit or ProblemDetails(title=_NO_HTTP, status=400, detail=detail))

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._begun = True
        self._told = self._headers_told = 0

    def on_url(self, url: bytes) -> None:
        """The URL, or a part of it."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which is none and is left out (RFC 9110, 6.5.1)."""
        self._headers_told += 1
        self._count(len(name) + len(value))
        if self._begun:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._whole()
        if (unfit := self._why_unfit()) is not None:
            self._unfit = unfit
            raise _UnfitHeadError
        if self.parser.should_upgrade():
            return  # it comes again
        self._is_head = False
        if len(self.pipeline) >= MOST_IN_A_ROW:
            self._is_large = True
            raise _LargeHeadError
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk begins; trailers, if no body follows."""
        self._is_head = True

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._whole()
        self._is_head = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request has come whole; another may follow."""
        if self.parser.should_upgrade():
            return
        self._whole()
        self._read_to_its_end()
        self._is_head = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer has gone out; only now the time of a head that has begun behind its request counts."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._wait()
        if self.cycle.response_complete and self.cycle.more_body:
            # What was refused unread has no more time than what is read (`services.serve.http.reading`).
            self._unread = self.loop.call_later(self.timeout_s, self.transport.close)
        super().on_response_complete()

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _may_tell(self) -> bool:
        """Whether nothing is being answered; or only a request whose body is cut short by what is told."""
        if not self._is_answering:
            return True
        waits = any(self.cycle is waiting for waiting, _ in self.pipeline)
        return self.cycle.more_body and not self.cycle.response_started and not waits

    def _why_unfit(self) -> ProblemDetails | None:
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):  # RFC 9112, 3.2
            detail = f"a head has one header Host, and not {hosts or 'none'}"
        elif not _chunks_alone(self.headers):
            detail = _BROKEN_BODY
        elif self.parser.get_method() == b"CONNECT":
            detail = "CONNECT is for proxies"
        elif self.parser.should_upgrade() and offers_a_web_socket(self.headers):
            detail = "nothing here is a WebSocket; ask without the header Upgrade"
            return ProblemDetails(title="No WebSocket", status=403, detail=detail)
        else:
            return None
        return ProblemDetails(title=_NO_HTTP, status=400, detail=detail)

    def _count(self, size: int) -> None:
        self._told += size
        if self._told > MOST_BYTES or self._headers_told > MOST_HEADERS:
            self._is_large = True
            raise _LargeHeadError

    def _wait(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self.timeout_s, self._late)

    def _whole(self) -> None:
        self._come, self._begun = 0, False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _read_to_its_end(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _late(self) -> None:
        self._timer = None
        if self._is_answering:
            self._wait()  # it may be us who do not read: requests that came in a row wait for their turn
        elif self._come or self._begun:
            count_refusal(PROXY, "SlowHeadError", "time")
            detail = f"the head did not come to its end within {self.timeout_s:g} s"
            self._close(ProblemDetails(title="The head came too slowly", status=408, detail=detail))
        else:
            self.transport.close()  # nothing was asked

    def _refuse(self) -> None:
        count_refusal(PROXY, "LargeHeadError", "head")
        detail = f"at most {MOST_HEADERS} headers and {MOST_BYTES} bytes are taken before a body"
        self._close(ProblemDetails(title="The head is over a limit", status=431, detail=detail))

    def _close(self, problem: ProblemDetails) -> None:
        self._whole()
        if self._may_tell:
            content = orjson.dumps(problem.model_dump(exclude_none=True))
            phrase = HTTPStatus(problem.status).phrase
            head = (
                f"HTTP/1.1 {problem.status} {phrase}\r\nContent-Type: {MEDIA_TYPE}\r\n"
                f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + content)
        self.transport.close()


def _chunks_alone(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a body comes in no other transfer encoding than chunked; the parser asks for it as the last
    one, and leaves what was done before it undone.
    """
    named = b",".join(value for name, value in headers if name == b"transfer-encoding").split(b",")
    return [word for each in named if (word := each.strip(b" \t").lower())] in ([], [b"chunked"])


def bound_heads() -> bool:
    """Make servers that this process starts from now on bound heads, within the time that bodies have.

    Returns:
        Whether uvicorn is one that this fits; else it is logged that heads have no limit.
    """
    fits = (
        HTTP_PROTOCOLS.get("auto") == _AUTO
        and auto.AutoHTTPProtocol in (HttpToolsProtocol, BoundedHeads)
        and all(hasattr(HttpToolsProtocol, name) for name in _HOOKS)
    )
    if fits:
        BoundedHeads.timeout_s = BodyLimits.of_environment().timeout_s
        auto.AutoHTTPProtocol = BoundedHeads
    else:
        telemetry.log("heads_without_limit", level="warning", protocol=repr(auto.AutoHTTPProtocol))
    return fits
