"""Checkpoints are written while training goes on, straight to where they stay.

A save copies weights and moments to host memory, which training waits for; files are written by a thread of
each rank meanwhile, with a process group of their own. Rank 0 writes the state file once all ranks are done,
and then takes away what is not kept. A save waits for the one before it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from fsspec.implementations.local import LocalFileSystem
from torch.distributed.checkpoint import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils._pytree import tree_map

from services.base.whole_files import write_whole
from services.learner.checkpoint import (
    STATE_FILE,
    Found,
    folder_name,
    kept,
    remove_unfinished,
    storage_of,
    whole_ones,
)

State = dict[str, Any]


class Checkpoints:
    """A run's. All methods but `rate` are collective: every rank calls them in the same order.

    Args:
        address: of the folder that they lie in, see `services.learner.checkpoint.address_of`.
        count: of the last ones that are kept.
        best: of those with the best scores.
        timeout_s: longest wait for one to be written, and for the other ranks.

    Raises:
        CheckpointError: what a kill left cannot be told from what is whole.
    """

    def __init__(self, address: str, *, count: int, best: int, timeout_s: float = 1800.0) -> None:
        self._address, self._timeout_s = address, timeout_s
        self._count, self._best = count, best
        # Not that of the learner: its collective calls would meet those of a save's thread.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_s))
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._running: Future[None] | None = None
        if dist.get_rank() == 0:
            remove_unfinished(address)
        dist.barrier(self._group)

    @property
    def last(self) -> Found | None:
        """The last whole one.

        Raises:
            CheckpointError: they cannot be read, see `whole_ones`; from `save`, `wait` and `rate` too.
        """
        found = whole_ones(self._address)
        return found[max(found)] if found else None

    def save(self, tensors: State, state: Mapping[str, Any]) -> None:
        """Begin to write one; training may go on when it returns.

        Args:
            tensors: this rank's, see `TrainedPolicy.state`.
            state: of the whole run, with ``step``; rank 0's counts.
        """
        self.wait()
        address = f"{self._address.rstrip('/')}/{folder_name(int(state['step']))}"
        self._running = self._thread.submit(self._write, tree_map(_copied, tensors), address, dict(state))

    def wait(self) -> None:
        """Wait until the last save is whole, or has failed, which is raised.

        Raises:
            TimeoutError: the storage does not take it.
        """
        if self._running is not None:
            if not futures.wait([self._running], self._timeout_s).done:
                limit = f"{self._timeout_s:g} s (learner.timeout_s)"
                raise TimeoutError(f"waited {limit} for a checkpoint to be written to {self._address}")
            self._running.result()
            self._running = None
        dist.barrier(self._group)

    def rate(self, step: int, score: float) -> None:
        """Note what the policy after so many steps is worth; rank 0 alone, after `wait`."""
        one = whole_ones(self._address).get(step)
        if one is not None:
            self._write_state(one.address, {**one.state, "score": score})
            self._remove_others()

    def _write(self, tensors: State, address: str, state: State) -> None:
        dcp.save(tensors, storage_writer=_writer(address), process_group=self._group)
        if dist.get_rank() == 0:
            self._write_state(address, state)
            self._remove_others()

    def _write_state(self, address: str, state: State) -> None:
        files, path = storage_of(f"{address}/{STATE_FILE}")
        if isinstance(files, LocalFileSystem):
            write_whole(Path(path), json.dumps(state))
            return
        # Under another name first: of some storage a kill could leave half of it.
        files.pipe_file(f"{path}.part", json.dumps(state).encode())
        files.mv(f"{path}.part", path)

    def _remove_others(self) -> None:
        found = whole_ones(self._address)
        for step in sorted(found.keys() - kept(found, self._count, self._best)):
            files, path = storage_of(found[step].address)
            files.rm_file(f"{path}/{STATE_FILE}")  # first: what is left by a kill then counts no more
            files.rm(path, recursive=True)


def is_due(every: int, steps: int) -> bool:
    """Whether what comes every so many steps, 0 for never, comes after these."""
    return every > 0 and steps % every == 0


def _copied(value: Any) -> Any:
    """Copies in host memory, which training does not change as it goes on."""
    if isinstance(value, DTensor):
        return DTensor(_copied(value.to_local()), value._spec, requires_grad=False)
    if is_traceable_wrapper_subclass(value):  # moments in 8 bits, of which `copy` would copy nothing
        names, rest = value.__tensor_flatten__()
        inner = {name: _copied(getattr(value, name)) for name in names}
        return value.__tensor_unflatten__(inner, rest, value.shape, value.stride())
    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value


def read_into(tensors: State, address: str) -> None:
    """Fill tensors in place with a checkpoint's, also one of another number of ranks.

    A rank that the checkpoint does not know keeps its random state.
    """
    reader = _reader(address)
    known = reader.read_metadata().state_dict_metadata
    wanted = {name: value for name, value in tensors.items() if not name.startswith("rng-") or name in known}
    dcp.load(wanted, storage_reader=reader)


def _is_local(address: str) -> bool:
    return isinstance(storage_of(address)[0], LocalFileSystem)


def _writer(address: str) -> Any:
    if _is_local(address):
        return FileSystemWriter(storage_of(address)[1])
    return FsspecWriter(address)


def _reader(address: str) -> Any:
    if _is_local(address):
        return FileSystemReader(storage_of(address)[1])
    return FsspecReader(address)


def random_state() -> State:
    """This rank's, under a name of its own."""
    return {f"rng-{dist.get_rank()}": torch.get_rng_state()}
