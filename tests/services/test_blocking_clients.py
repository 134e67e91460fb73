"""Clients without an event loop: scripts that forget them end, forks have their own, closed ones say so."""

import gc
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlad_core.client import RolloutClient, TeacherClient, VerifierClient

CLIENTS = (TeacherClient, RolloutClient, VerifierClient)


class _Silent(BaseHTTPRequestHandler):
    """Answers what no client understands; under /slow, never."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.startswith("/slow"):
            time.sleep(60)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Silent)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://localhost:{server.server_address[1]}"  # a name: it is looked up in a thread of the loop's
    server.shutdown()


FORGETS = """
import contextlib, sys, threading, time
from rlad_core.client import RolloutClient, TeacherClient, VerifierClient
url, how = sys.argv[1:]
clients = [RolloutClient(url), TeacherClient(url), VerifierClient(url)]
if how == "asked":
    for client, ask in zip(clients, ("policy", "info", "info")):
        with contextlib.suppress(LookupError):
            getattr(client, ask)()
if how == "asking":
    threading.Thread(target=TeacherClient(url + "/slow").info, daemon=True).start()
    time.sleep(1)
if how == "raises":
    raise SystemExit(3)
print("end")
"""


@pytest.mark.parametrize("how", ["made", "asked", "asking", "raises"])
def test_a_script_that_forgets_its_clients_ends(url: str, how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", FORGETS, url, how],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    told = (done.returncode, done.stdout, done.stderr if how != "asking" else "")
    assert told == ((3, "", "") if how == "raises" else (0, "end\n", ""))
    assert "Traceback" not in done.stderr


FORKS = """
import contextlib, os, sys
from rlad_core.client import TeacherClient
teacher = TeacherClient(sys.argv[1])
for _ in range(2):
    with contextlib.suppress(LookupError):
        teacher.info()
    if not (child := os.fork()):
        with contextlib.suppress(LookupError):
            teacher.info()
        print("child", flush=True)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
with contextlib.suppress(LookupError):
    teacher.info()
print("end")
"""


def test_a_fork_asks_by_itself(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, url], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "child\nchild\nend\n", "")


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_client_is_not_sent_elsewhere(kind: type[TeacherClient]) -> None:
    with kind("http://127.0.0.1:1") as client, pytest.raises(TypeError, match="make one there"):
        pickle.dumps(client)


def closed(kind: type[TeacherClient]) -> TeacherClient:
    client = kind("http://127.0.0.1:1")
    client.close()
    client.close()
    return client


@pytest.mark.parametrize(
    "use",
    [
        lambda: closed(TeacherClient).info(),
        lambda: closed(TeacherClient).score_texts([("a", "b")]),
        lambda: closed(RolloutClient).policy(),  # type: ignore[arg-type, attr-defined]
        lambda: closed(VerifierClient).judge("math", []),  # type: ignore[arg-type, attr-defined]
    ],
)
def test_a_closed_client_says_so(use: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError, match=r"this \w+Client is closed; make another one"):
        use()


def test_who_waits_while_it_is_closed_is_told(url: str) -> None:
    said: list[BaseException] = []
    teacher = TeacherClient(f"{url}/slow")

    def ask() -> None:
        try:
            teacher.info()
        except RuntimeError as error:
            said.append(error)

    waits = threading.Thread(target=ask)
    waits.start()
    time.sleep(0.5)
    teacher.close()
    waits.join(20)
    assert "was closed before the answer came" in str(said[0])


def test_a_client_that_nobody_holds_leaves_no_thread(url: str) -> None:
    def clients() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "rlad client"}

    before = clients()  # another test may have left one
    teacher = TeacherClient(url)
    with pytest.raises(LookupError):
        teacher.info()
    assert clients() - before
    del teacher
    gc.collect()
    until = time.monotonic() + 20
    while clients() - before and time.monotonic() < until:
        time.sleep(0.05)
    assert not clients() - before
