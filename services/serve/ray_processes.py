"""Ray's own processes beside this one, and what is said when one of them ends before its time.

Without the raylet Ray's C++ ends this process where it next asks for an object: with `_exit(1)`, no word and
no exception. Without its control store it does so a minute later. So their ends are watched, and this process
ends with the reason. Linux only (pidfd); elsewhere Ray's way stays.
"""

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import psutil
from ray._private import ray_constants, worker
from ray._private.node import Node


@contextmanager
def whose_end_is_told(go_on: str = "", end_all: Callable[[], None] | None = None) -> Iterator[None]:
    """Watch the raylet of this host, and the control store if it is ours, until the block ends.

    Args:
        go_on: a sentence for who reads of their end.
        end_all: ends what was started here, before this process ends.
    """
    handles = _opened(_beside(worker._global_node))
    if not handles:
        yield
        return
    stopped = os.eventfd(0)
    thread = threading.Thread(target=_watch, args=(handles, stopped, go_on, end_all), daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.eventfd_write(stopped, 1)
        thread.join()
        for handle in (*handles, stopped):
            os.close(handle)


def _beside(node: Node) -> dict[int, str]:
    """Process ids, and what each is called."""
    names = {
        ray_constants.PROCESS_TYPE_RAYLET: "raylet",
        ray_constants.PROCESS_TYPE_GCS_SERVER: "control store",
    }
    ours = {
        started.process.pid: name
        for kind, name in names.items()
        for started in node.all_processes.get(kind, ())
    }
    return ours or dict.fromkeys(_raylets(f"--raylet_socket_name={node.raylet_socket_name}"), "raylet")


def _raylets(argument: str) -> Iterator[int]:
    """Of a Ray that was there before; one that is another user's cannot be seen."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.name() == "raylet" and argument in process.cmdline():
                yield process.pid


def _opened(processes: dict[int, str]) -> dict[int, str]:
    """Handles of them that poll, by which no other can be meant than was when they were opened."""
    if not hasattr(os, "pidfd_open"):
        return {}
    return {os.pidfd_open(pid): f"{name} (process {pid})" for pid, name in processes.items()}


def _watch(handles: dict[int, str], stopped: int, go_on: str, end_all: Callable[[], None] | None) -> None:
    waiting = select.poll()
    for handle in (*handles, stopped):
        waiting.register(handle, select.POLLIN)
    ended = {handle for handle, _ in waiting.poll()}
    if stopped in ended:
        return
    what = " and ".join(handles[handle] for handle in sorted(ended))
    told = f"failed: Ray's {what} ended, and nothing here works without it. {go_on}".rstrip()
    os.write(2, f"\n{told}\n".encode())  # past Python's buffers: Ray may end this process at any moment
    if end_all is not None:
        end_all()
    os._exit(1)
