"""A start of Ray that takes long says what it waits for, and which attempt it is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from services.serve import cluster, start_told


class Said(list[str]):
    """Lines, and waiting for one of them."""

    def __init__(self) -> None:
        super().__init__()
        self._come = Event()

    def __call__(self, line: str) -> None:
        self.append(line)
        self._come.set()

    def wait_for(self, *words: str) -> None:
        """Until a line has them all."""
        while not any(all(word in line for word in words) for line in self):
            self._come.clear()
            assert self._come.wait(30), self


def test_each_stage_and_attempt_of_a_slow_start_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    said, starts = Said(), 0

    @contextmanager
    def lean(meanwhile: Any, *, services_alone: bool) -> Iterator[None]:
        said.wait_for("waiting for Ray's first process since", f"(attempt {starts + 1} of 3)")
        meanwhile()
        yield

    def init(**_: Any) -> None:
        nonlocal starts
        starts += 1
        said.wait_for("waiting for Ray's node since", f"(attempt {starts} of 3)")
        if starts == 1:
            raise RuntimeError("The current node timed out during startup")

    def imported() -> None:
        said.wait_for("waiting for what is imported")

    monkeypatch.setattr(cluster.ray_constants, "ENABLE_RAY_CLUSTER", False)
    monkeypatch.setattr(start_told, "_TELL_EVERY_S", 0.01)
    monkeypatch.setattr(cluster.lean_ray, "lean", lean)
    monkeypatch.setattr(cluster, "ray", SimpleNamespace(init=init, shutdown=lambda: None))
    monkeypatch.setattr(cluster, "whose_end_is_told", lambda *_: contextmanager(lambda: iter([None]))())
    monkeypatch.setattr(cluster, "_quiet", lambda: None)
    with patch.dict(os.environ), cluster.embedded_ray(num_cpus=1, meanwhile=imported, say=said):
        assert starts == 2
        assert "Ray's node did not start in time (attempt 1 of 3): it is started again" in said
        told = len(said)
    assert len(said) == told
