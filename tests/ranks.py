"""Ranks as processes, forked from one server that has imported what takes longest."""

import multiprocessing
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

_IMPORTED = ["services.learner.trained_policy", "services.weights.push", "services.run.replay", "peft"]
_server: int | None = None
"""Its process, once it was started here."""


def fork_from_server() -> None:
    """Have processes of this session forked from that server, and from no other test's."""
    global _server
    running: Any = forkserver._forkserver  # type: ignore[attr-defined]
    if _server is None or running._forkserver_pid != _server:
        running._stop()
        multiprocessing.set_forkserver_preload(_IMPORTED)
        running.ensure_running()
        _server = running._forkserver_pid


def start_ranks(rank_of: Callable[..., None], ranks: int, *arguments: Any) -> None:
    """Run ``rank_of(rank, ranks, *arguments)`` in so many processes, and wait for them.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one failed; holds what it raised.
    """
    fork_from_server()
    mp.start_processes(rank_of, args=(ranks, *arguments), nprocs=ranks, start_method="forkserver")


def join_ranks(rank: int, ranks: int, out: str | Path, meeting: str = "meeting") -> None:
    """Become one of the ranks, which meet through a file of that name."""
    dist.init_process_group("gloo", init_method=f"file://{out}/{meeting}", rank=rank, world_size=ranks)
    torch.set_num_threads(1)
