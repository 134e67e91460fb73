"""A process of our own that worker processes are forked from.

Forking a process with threads, as a Serve replica is, deadlocks; starting Python takes seconds for every
worker that had to be killed. This one is clean and has the imports done. Python's own fork server
(`multiprocessing.forkserver`) looks for modules in the current folder first, where anybody's ``services.py``
may lie, and has every worker run the main module again.

It does two things, one request at a time: ``fork`` with the descriptors that a worker gets, answered by a
process id, or ``!`` and what hinders it; and ``reap`` of a process id, answered by an exit code, or ``-`` as
long as it runs. It ends when its client does.
"""

import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence

from services.verifier.checking import endings, worker

START_LIMIT_S = 120.0
_RUNS = "-"
_UNKNOWN = "?"
_HINDERED = "!"
_REQUEST_BYTES = 512
_SAID_BYTES = 8192
_POLL_S = 0.002

# Installed packages come first, and all of ours that is loaded by then comes from where they are.
_PROGRAM = """
import sys
more = [path for path in {paths!r} if path not in sys.path]
try:
    from services.verifier.checking import forks
except ImportError:
    sys.path += more
    from services.verifier.checking import forks
forks.main({control}, {preload!r}, more)
"""


class ForkServer:
    """The client's side; may be used from several threads. The process is started when it is needed.

    Args:
        preload: modules that workers will need; one that cannot be imported is the worker's to tell.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._preload = list(preload)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def fork(self, descriptors: Sequence[int]) -> int:
        """Start `worker.serve` with these descriptors; its process id.

        Raises:
            RuntimeError: the process does not start, or is not there in time.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool of worker processes is closed")
            for last in (False, True):  # it may have ended since
                if self._process is None or self._process.poll() is not None:
                    self._start()
                try:
                    answer = self._ask(b"fork", descriptors)
                except OSError as error:
                    if last:
                        raise RuntimeError(f"no worker process can be forked: {error}") from error
                    self._stop()
                    continue
                if answer.startswith(_HINDERED):
                    raise RuntimeError(f"no worker process can be forked: {answer.removeprefix(_HINDERED)}")
                return int(answer)
        raise AssertionError

    def reap(self, pid: int, limit_s: float) -> int | None:
        """The exit code of a worker that has ended or is about to; None: it cannot be had."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            with self._lock:
                if self._process is None:
                    return None
                try:
                    answer = self._ask(b"reap %d" % pid)
                except OSError:
                    self._stop()  # its answer may still come, and would be taken for the next one's
                    return None
            if answer != _RUNS:
                return None if answer == _UNKNOWN else int(answer)
            time.sleep(_POLL_S)
        return None

    def close(self) -> None:
        """End the process, and with it all that it forked. Nothing can be forked any more."""
        with self._lock:
            self._closed = True
            self._stop()

    def _start(self) -> None:
        self._stop()
        self._errors = os.memfd_create("forks")
        self._kills_for_memory = endings.kills_for_memory()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.settimeout(START_LIMIT_S)
        program = _PROGRAM.format(
            paths=[path for path in sys.path if path], control=theirs.fileno(), preload=self._preload
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                pass_fds=[theirs.fileno()],
                cwd="/",
                start_new_session=True,
            )

    def _stop(self) -> None:
        if self._process is not None:
            self._control.close()
            self._process.kill()
            self._process.wait()
            self._process = None
            os.close(self._errors)

    def _ask(self, request: bytes, descriptors: Sequence[int] = ()) -> str:
        """Raises OSError: no answer."""
        try:
            socket.send_fds(self._control, [request], descriptors)
            answer = self._control.recv(_REQUEST_BYTES)
        except TimeoutError as error:
            raise OSError(f"waited {START_LIMIT_S:.0f} s for the process that forks them") from error
        except ConnectionError:
            answer = b""
        if not answer:
            raise OSError(f"the process that forks them has ended{self._why_it_ended()}")
        return answer.decode("utf-8", "replace")

    def _why_it_ended(self) -> str:
        """How, and what it wrote last."""
        if self._process is None:
            return ""
        try:
            code = self._process.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            return ""
        written = os.pread(self._errors, _SAID_BYTES, max(0, os.fstat(self._errors).st_size - _SAID_BYTES))
        how = endings.how_it_ended(code, self._kills_for_memory)
        return f" with {how}{endings.last_words(written)}"


def main(control_fd: int, preload: Sequence[str], paths: Sequence[str]) -> None:
    """The process itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in preload:
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001 - the worker that needs it fails too, and says whose it is
            traceback.print_exc()
    sys.path += [path for path in paths if path not in sys.path]
    with socket.socket(fileno=control_fd) as control:
        while True:
            request, descriptors, _, _ = socket.recv_fds(control, _REQUEST_BYTES, 8)
            if not request:
                return
            control.send(_fork(control, descriptors) if descriptors else _reap(int(request.split()[1])))


def _fork(control: socket.socket, descriptors: Sequence[int]) -> bytes:
    server = os.getpid()
    try:
        pid = os.fork()
    except OSError as error:
        for descriptor in descriptors:
            os.close(descriptor)
        return f"{_HINDERED}{endings.what_hinders(error)}".encode()[:_REQUEST_BYTES]
    if pid == 0:
        try:
            control.close()
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            connection, errors, traces, progress = descriptors
            worker.serve(connection, errors, traces, progress, server)
        except BaseException:  # noqa: BLE001 - must not go on as another server
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        finally:
            os._exit(0)
    for descriptor in descriptors:
        os.close(descriptor)
    return b"%d" % pid


def _reap(pid: int) -> bytes:
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return _UNKNOWN.encode()
    return b"%d" % os.waitstatus_to_exitcode(status) if ended else _RUNS.encode()
