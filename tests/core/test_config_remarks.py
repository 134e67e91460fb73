"""What a recipe is not refused for, and who runs it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlad_core.config import load
from rlad_core.config.remarks import run_remarks

OWN = """
from rlad_core.objectives import ClippedSurrogate, Objective


class Plain(Objective):
    def __call__(self, batch, step):
        raise NotImplementedError


class Clipped(ClippedSurrogate):
    def __call__(self, batch, step):
        raise NotImplementedError


class Weighing(Plain):
    mismatch_cap: float | None = 3.0
"""


def remarks(*objectives: str, staleness: int = 1) -> list[str]:
    stages = ", ".join(f"{{steps: 9, objective: {each}}}" for each in objectives)
    return run_remarks(load("kk-tiny-trrd", [f"stages=[{stages}]", f"rollout.max_staleness={staleness}"]))


@pytest.fixture
def own(tmp_path: Path) -> str:
    (tmp_path / "own.py").write_text(OWN)
    return str(tmp_path / "own.py")


def test_an_objective_without_a_weight_for_a_tokens_age_is_told(own: str) -> None:
    told = remarks("{kind: sft}", "{kind: gkd}", "{kind: trrd}", f"{{kind: '{own}:Plain'}}", staleness=2)
    assert [each.partition(" has no mismatch_cap: with rollout.max_staleness 2 ")[0] for each in told] == [
        "stages.1.objective (gkd)",
        "stages.3.objective (Plain)",
    ]


def test_strictly_on_policy_there_is_nothing_to_weigh(own: str) -> None:
    assert remarks("{kind: gkd}", f"{{kind: '{own}:Plain'}}", staleness=0) == []


@pytest.mark.parametrize("name", ["Clipped", "Weighing"])
def test_a_cap_of_its_own_is_known_by_its_name(own: str, name: str) -> None:
    assert remarks(f"{{kind: '{own}:{name}'}}") == []


@pytest.mark.parametrize(
    "kind",
    ["grpo", "dapo", "gspo", "kdrl", "opd", "opdvr", "grpd", "top_d", "sg_opd", "power_opd", "rlsd", "sdar"],
)
def test_those_of_the_clipped_surrogate_weigh_them(kind: str) -> None:
    assert remarks(f"{{kind: {kind}}}") == []


@pytest.mark.parametrize(("updates", "told"), [(1, ["stages.0.objective (gspo)"]), (2, [])])
def test_a_ratio_of_responses_that_is_1_is_told(updates: int, told: list[str]) -> None:
    changes = ["stages=[{steps: 9, objective: {kind: gspo}}]", f"learner.updates_per_batch={updates}"]
    assert [each.partition(":")[0] for each in run_remarks(load("kk-tiny-trrd", changes))] == told
