"""The learner puts the engines on its GPU to sleep and wakes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch.distributed as dist

from rlad_core.config import load
from services.base.span_collector import SpanCollector
from services.learner import sleeping
from services.learner.sleeping import EnginesSleep
from services.serve.everyone import EveryoneError


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def engines(one_rank: None, monkeypatch: pytest.MonkeyPatch) -> EnginesSleep:
    names = SimpleNamespace(rollout=lambda: "rollout", teacher_app=lambda place: place)
    monkeypatch.setattr(sleeping, "ServiceNames", lambda _: names)
    monkeypatch.setattr(sleeping.serve, "get_app_handle", lambda name: name)
    return EnginesSleep(load(Path("qwen3-0.6b-kk-trrd-lora-24gb")), timeout_s=30)


def test_services_are_told_side_by_side_within_a_span_of_the_step(
    engines: EnginesSleep, monkeypatch: pytest.MonkeyPatch
) -> None:
    both, told = threading.Barrier(2), list[str]()

    def ask_everyone(handle: str, method: str, **_: Any) -> None:
        both.wait(30)
        told.append(f"{handle} {method}")

    monkeypatch.setattr(sleeping, "ask_everyone", ask_everyone)
    spans = SpanCollector()
    with engines.asleep():
        assert sorted(told) == ["rollout sleep", "teacher sleep"]
        told.clear()
    assert sorted(told) == ["rollout wake", "teacher wake"]
    assert [(span.stage, span.items) for span in spans.take()] == [("sleep", 2)] * 2
    spans.close()


def test_one_that_cannot_is_named_when_all_have_answered(
    engines: EnginesSleep, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = []

    def ask_everyone(handle: str, method: str, *, who: str, what: str, **_: Any) -> None:
        if handle == "rollout":
            raise EveryoneError(f"{who} could not {what}: 1 of 9 weights differ: head")
        told.append(method)

    monkeypatch.setattr(sleeping, "ask_everyone", ask_everyone)
    with pytest.raises(EveryoneError, match="rollout replicas could not wake up: 1 of 9"):
        engines.wake()
    assert told == ["wake"]
