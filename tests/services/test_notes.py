"""What a rank tells whoever watches its run."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from rlad_core.config import load
from services.learner.notes import note


class Journal:
    def __init__(self) -> None:
        self.noted: list[str] = []
        self.note = self

    def remote(self, text: str) -> None:
        self.noted.append(text)


def test_the_runs_journal_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal()

    def get_actor(name: str, namespace: str) -> Any:
        if name != "mine-journal":
            raise ValueError(name)
        return journal

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "get_actor", get_actor)
    note(load("kk-tiny-grpo", ["name=mine"]), "a word")
    note(load("kk-tiny-grpo", ["name=gone"]), "another")  # its journal is lost; a rank goes on
    assert journal.noted == ["a word"]


def test_without_ray_nobody_is_started_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "get_actor", lambda *_, **__: pytest.fail("asked"))
    note(load("kk-tiny-grpo"), "a word")
