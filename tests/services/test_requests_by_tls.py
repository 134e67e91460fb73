"""Requests by HTTPS: whose certificate is trusted, and what can never go well."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from certificates import make_certificate

from rlad_core.client.endpoint import Endpoint
from rlad_core.client.errors import ServiceError


class _Fine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def port(certificate: tuple[Path, Path]) -> Iterator[Callable[[bool], int]]:
    """Starts a server, by HTTPS or not, and says where."""
    with ExitStack() as stack:

        def start(tls: bool) -> int:
            server = HTTPServer(("127.0.0.1", 0), _Fine)
            if tls:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(*certificate)
                server.socket = context.wrap_socket(server.socket, server_side=True)
            stack.enter_context(closing(server.socket))
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            return int(server.server_address[1])

        yield start


def asked(url: str) -> int:
    async def body() -> int:
        async with Endpoint(url, timeout_s=20) as endpoint:
            return (await endpoint.request("GET", "/v1/info", what="the settings")).status_code

    return asyncio.run(body())


def test_a_certificate_is_trusted_where_it_is_named(
    port: Callable[[bool], int], certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"https://127.0.0.1:{port(True)}"
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    says = r"cannot be asked for the settings: its certificate is not trusted \(self.signed certificate\)"
    with pytest.raises(ServiceError, match=says) as refused:
        asked(url)
    assert "SSL_CERT_FILE" in str(refused.value)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    assert asked(url) == 200


def test_https_where_there_is_none(port: Callable[[bool], int]) -> None:
    with pytest.raises(ServiceError, match="does not answer HTTPS; write http://"):
        asked(f"https://127.0.0.1:{port(False)}")
