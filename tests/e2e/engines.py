"""The processes of vLLM's engines below a command, without the titles that they give themselves.

A title goes where a process's environment began, which setproctitle finds by its first variable. Ray hands
variables on in an order of its own, and vLLM sets some anew while it is imported, in another place: where one
of those came first, there is no title, and nobody says so.
"""

from __future__ import annotations

from contextlib import suppress

import psutil


def engines_below(command: int) -> list[psutil.Process]:
    """Of its rollout replicas, the oldest first; one that is just being replaced is among them."""
    found = []
    with suppress(psutil.Error):  # it has just ended
        for replica in psutil.Process(command).children(recursive=True):
            with suppress(psutil.Error):
                if "RolloutService" in " ".join(replica.cmdline()):
                    found += spawned_by(replica)
    return sorted(found, key=psutil.Process.create_time)


def spawned_by(process: psutil.Process) -> list[psutil.Process]:
    """What it has started by `multiprocessing`, whose helpers aside."""
    found = []
    for each in process.children():
        with suppress(psutil.Error):
            words = " ".join(each.cmdline())
            if "spawn_main" in words or "VLLM::" in words:
                found.append(each)
    return found


def workers_below(command: int) -> list[psutil.Process]:
    """The processes that share an engine's model, where it is in several."""
    found = []
    for engine in engines_below(command):
        with suppress(psutil.Error):
            found += spawned_by(engine)
    return found


def is_connected(process: psutil.Process) -> bool:
    """To another one, over the network."""
    with suppress(psutil.Error):
        return any(each.status == psutil.CONN_ESTABLISHED for each in process.net_connections("inet"))
    return False
