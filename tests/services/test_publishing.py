"""Which policy versions the engines are handed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch.distributed as dist

from rlad_core.config import RunConfig, load
from services.base.span_collector import SpanCollector
from services.learner import publishing
from services.learner.publishing import Publishing, must_publish


@pytest.fixture
def one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def handed(config: RunConfig) -> set[int]:
    """Versions that engines come to hold; the first one is published before any step."""
    return {0, *(step + 1 for step in range(config.total_steps) if must_publish(config, step, {}))}


@pytest.mark.parametrize("source", ["trace", "teacher"])
@pytest.mark.parametrize("bound", [0, 1, 2])
def test_engines_get_every_version_that_a_group_may_be_begun_with(bound: int, source: str) -> None:
    supervised = f"{{steps: 5, objective: {{kind: sft, source: {source}}}}}"
    config = load(
        "kk-tiny-trrd",
        [
            f"stages=[{supervised}, {{steps: 3, objective: {{kind: grpo}}}}, {supervised}]",
            f"rollout.max_staleness={bound}",
            "learner.warmup_steps=0",
        ],
    )
    begun_with = {version for step in (5, 6, 7) for version in range(step - bound, step + 1)}
    # And the start's, and the end's, which is evaluated: steps without rollouts hand nothing over.
    assert handed(config) == {0, *begun_with, 13}


def test_what_is_evaluated_or_follows_a_rule_is_handed_over() -> None:
    supervised = "{steps: 4, objective: {kind: sft}}"
    stages = f"stages=[{{steps: 4, objective: {{kind: sft}}, until: {{tokens: 9}}}}, {supervised}]"
    config = load("kk-tiny-trrd", [stages, "learner.warmup_steps=0", "evaluation.every=3"])
    assert handed(config) == {0, 1, 2, 3, 4, 6, 8}


def test_who_publishes_waits_for_the_hand_over_before_within_the_step(
    monkeypatch: pytest.MonkeyPatch, one_rank: None
) -> None:
    """The wait is the step's own time, and the hand-over itself goes on behind it."""
    taken, told = threading.Event(), []
    names = SimpleNamespace(rollout=lambda: None, policy_store=None)
    monkeypatch.setattr(publishing, "ServiceNames", lambda _: names)
    monkeypatch.setattr(publishing, "weight_push", lambda *_: None)
    monkeypatch.setattr(publishing, "publish", lambda *_: None)
    monkeypatch.setattr(publishing, "sync", lambda *_: taken.wait(20))
    collector = SpanCollector()
    of = Publishing(load("kk-tiny-trrd"), (), told.append)  # type: ignore[arg-type]
    of.publish(1, behind=True)
    threading.Timer(0.3, taken.set).start()
    of.publish(2, behind=True)
    of.wait()
    spans = collector.take()
    collector.close()
    own, behind = ([s for s in spans if s.behind is kind] for kind in (False, True))
    assert told == [1, 2]
    assert [s.stage for s in (*own, *behind)] == ["weight_sync"] * 4
    assert behind[0].end - behind[0].start > 0.25
    assert own[1].end >= behind[0].end  # it is over when the version before is there
    assert own[1].end - own[1].start > 0.25
    assert own[0].end - own[0].start < 0.25
