"""A limit on Ray's start, which has none of its own.

A process joins its node by a message that is answered when the node's first workers have come. Where they
died, or the node hangs, no answer comes, and since it is waited for in C++ no signal is heard either.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ray._private import worker

START_S = 240.0
_GRACE_S, _LOOK_S = 30.0, 0.1


@contextmanager
def start_limit(limit_s: float = START_S, grace_s: float = _GRACE_S) -> Iterator[threading.Event]:
    """For a call of `ray.init`.

    Args:
        limit_s: after there is a node, this is killed, so that the call fails.
        grace_s: after that the call has to fail; where it waits even then, or for a node of somebody else,
            this process ends.

    Yields:
        Set where the limit was passed.
    """
    passed, over = threading.Event(), threading.Event()

    def watch() -> None:
        while (node := worker._global_node) is None:  # Ray has limits of its own, until there is one
            if over.wait(_LOOK_S):
                return
        if over.wait(limit_s):
            return
        passed.set()
        logs = f"; its logs are in {node.get_logs_dir_path()}"
        print(
            f"Ray's node did not answer within {limit_s:g} s of its start{logs}", file=sys.stderr, flush=True
        )
        node.kill_all_processes(check_alive=False, allow_graceful=False)
        if not over.wait(grace_s):
            os._exit(1)

    threading.Thread(target=watch, name="ray-start-limit", daemon=True).start()
    try:
        yield passed
    finally:
        over.set()
