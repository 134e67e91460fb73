"""A hub on the loopback interface: the routes that fetching a model takes, and the faults that a network
has."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

MODEL, COMMIT = "small/model", "0123456789abcdef0123456789abcdef01234567"
LARGE_FROM = 1000
"""Bytes from which on a file has a sha256, as Git-LFS files have."""


@dataclass
class Hub:
    """What it has, what is wrong with it, and what it was asked.

    Attributes:
        files: by path.
        token: that a caller must send, if any.
        stops_after: bytes of a body after which it sends no more, and keeps the connection, until `go_on`.
        damaged: paths whose first byte is another, so many times.
        asked: method and path of every call; of a range, also where it begins.
    """

    files: dict[str, bytes]
    token: str = ""
    stops_after: int | None = None
    damaged: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def tree(self) -> list[dict[str, object]]:
        return [_entry(path, content) for path, content in self.files.items()]


def _entry(path: str, content: bytes) -> dict[str, object]:
    entry: dict[str, object] = {"type": "file", "path": path, "size": len(content)}
    if len(content) < LARGE_FROM:
        return entry | {"oid": hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()}
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry | {"oid": "0" * 40, "lfs": large}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub, at `hub.url`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            path, start = unquote(urlsplit(self.path).path), 0
            if wanted := self.headers.get("Range"):
                start = int(wanted.removeprefix("bytes=").partition("-")[0])
            hub.asked.append(f"GET {path}" + (f" from {start}" if start else ""))
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._answer(401, b"{}", {"X-Error-Code": "GatedRepo"})
            elif path in (f"/api/models/{MODEL}", f"/api/models/{MODEL}/revision/{COMMIT}"):
                self._answer(200, json.dumps({"id": MODEL, "sha": COMMIT, "siblings": []}).encode())
            elif path.startswith(f"/api/models/{MODEL}/revision/"):
                self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            elif path == f"/api/models/{MODEL}/tree/{COMMIT}":
                self._answer(200, json.dumps(hub.tree()).encode())
            elif (name := path.removeprefix(f"/{MODEL}/resolve/{COMMIT}/")) in hub.files:
                self._file(name, start)
            else:
                self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def _file(self, name: str, start: int) -> None:
            content = hub.files[name]
            if hub.damaged.get(name, 0) > 0 and not start:
                hub.damaged[name] -= 1
                content = bytes([content[0] ^ 1]) + content[1:]
            self._answer(206 if start else 200, content[start:])

        def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            if hub.stops_after is not None and len(body) > hub.stops_after:
                self.wfile.write(body[: hub.stops_after])
                self.wfile.flush()
                hub.go_on.wait(60)
                self.close_connection = True
                return
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        hub.go_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
