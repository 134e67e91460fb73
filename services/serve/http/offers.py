"""Requests that offer another protocol with ``Upgrade``, read as what they are without the offer.

A server may ignore an offer (RFC 9110, 7.8), and Java's client and ``curl --http2`` make one with all that
they ask. But httptools takes whatever follows such a head for the other protocol, and uvicorn for a request:
a body would be lost, and read as a request of its own, which nobody sent. So the head is read again without
what offers, and then what follows it. Who wants a WebSocket can do nothing with another answer, and is
refused (`services.serve.http.heads`).
"""

from collections.abc import Iterable

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_OFFERS = (b"upgrade", b"http2-settings")
"""Headers that offer, and the words in ``Connection`` that say so."""


class OffersIgnored:
    """What httptools' parser is to a connection.

    While it reads a head that is read again, `should_upgrade` is true and nothing may be begun for it.

    Args:
        connection: that is told of what is read; has `url` and `headers` of the head when it is whole.
    """

    def __init__(self, connection: HttpToolsProtocol) -> None:
        self._connection = connection
        self._parser = _parser(connection)

    def feed_data(self, data: bytes) -> None:
        """Read on.

        Raises:
            httptools.HttpParserError: it is no HTTP, or the connection gives it up.
        """
        while True:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as offer:
                data = self._head() + data[offer.args[0] :]
                self._parser = _parser(self._connection)
            else:
                return

    def get_http_version(self) -> str:
        """Such as 1.1."""
        return str(self._parser.get_http_version())

    def get_method(self) -> bytes:
        """Such as GET."""
        return bytes(self._parser.get_method())

    def should_keep_alive(self) -> bool:
        """Whether another request may follow."""
        return bool(self._parser.should_keep_alive())

    def should_upgrade(self) -> bool:
        """Whether another protocol is offered."""
        return bool(self._parser.should_upgrade())

    def _head(self) -> bytes:
        first = b"%s %s HTTP/%s" % (self.get_method(), self._connection.url, self.get_http_version().encode())
        headers = (name + b": " + value for name, value in _without_offers(self._connection.headers))
        return b"\r\n".join([first, *headers, b"", b""])


def offers_a_web_socket(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a WebSocket is among what ``Upgrade`` names."""
    return any(name == b"upgrade" and b"websocket" in _words(value.lower()) for name, value in headers)


def _parser(connection: HttpToolsProtocol) -> HttpRequestParser:
    parser = HttpRequestParser(connection)
    # As uvicorn has it: what comes behind a request that ends the connection does not undo that request.
    parser.set_dangerous_leniencies(lenient_data_after_close=True)
    return parser


def _without_offers(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    for name, value in headers:
        if name == b"connection":
            yield name, b", ".join(word for word in _words(value) if word.lower() not in _OFFERS)
        elif name not in _OFFERS:
            yield name, value


def _words(value: bytes) -> list[bytes]:
    return [word.strip() for word in value.split(b",")]
