"""A recorded step under another objective: what of it is trained on, and where a sample of rows won't do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rlad_core import recorded, schema
from rlad_core.group_rule import GroupRule
from rlad_core.objectives import Objective
from rlad_core.objectives.dr_grpo import DrGRPO
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.top_d import TopD
from rlad_core.objectives.trrd import TRRD


def record(folder: Path, rewards: Sequence[Sequence[float]], **label: Any) -> recorded.RecordedStep:
    """A step of groups with these rewards, written as a run does and read again; what has one is right."""
    rows = [
        {
            "group_id": f"p{group}#0", "prompt_id": f"p{group}", "prompt_token_ids": [1],
            "sample_index": sample, "response_token_ids": [5] * (3 + sample),
            "rollout_logprobs": [-1.0] * (3 + sample), "policy_versions": [0] * (3 + sample),
            "finish_reason": "stop", "response": "words", "sequence_id": f"p{group}#0/{sample}",
            "task": "math", "subset": "all", "reward": reward, "reward_parts": {}, "correct": reward > 0,
            "verdict": "", "advantage": 7.0, "teacher_logprobs": [-1.0] * (3 + sample),
        }
        for group, told in enumerate(rewards)
        for sample, reward in enumerate(told)
    ]  # fmt: skip
    table = schema.build(schema.EXPERIENCE, rows, tokenizer_fingerprint="0" * 64)
    file = folder / "step-000000.arrows"
    file.write_bytes(schema.to_ipc(recorded.labelled(table, (1, 2), **label)))
    return recorded.read(file)


@pytest.mark.parametrize(
    ("objective", "drops", "left"),
    [
        (OPD(), True, ["p0#0", "p1#0", "p2#0"]),
        (GRPO(), True, ["p2#0"]),
        (GRPO(), False, ["p0#0", "p1#0", "p2#0"]),
        (KDRL(mask="wrong_responses"), True, ["p1#0", "p2#0"]),
    ],
)
def test_a_whole_step_has_the_groups_that_the_objective_would_have_trained_on(
    tmp_path: Path, objective: Objective, drops: bool, left: list[str]
) -> None:
    """Else groups that teach nothing would count in the means."""
    found = record(tmp_path, [[1, 1, 1], [0, 0, 0], [0, 1, 0]])
    found.check(objective, drop_uninformative=drops)
    found = found.for_objective(objective, drop_uninformative=drops)
    assert sorted(set(found.groups)) == left
    [plan] = found.plan(objective, mini_batches=1, ranks=1, pair_cost=0.0, masks=False)
    lengths = schema.lengths(found.table.column("response_token_ids"))
    assert (plan.token_weights * lengths[plan.rows]).sum() == pytest.approx(1)
    assert len(plan.rows) == len(found.table) == 3 * len(left)


@pytest.mark.parametrize(
    ("by", "under", "lacks"),
    [
        (TRRD(), GRPO(), None),
        (GRPO(), OPD(), None),
        (DrGRPO(fixed_length=32), DrGRPO(fixed_length=32), None),
        (DrGRPO(fixed_length=32), GRPO(), "grpo needs other advantages"),
        (GRPO(), DrGRPO(fixed_length=32), "dr_grpo needs other advantages"),
        (OPD(), GRPO(), "grpo needs to leave out other groups"),
        (KDRL(mask="wrong_responses"), GRPO(), "grpo needs to leave out other groups"),
        (KDRL(mask="failed_groups"), KDRL(mask="failed_groups"), "kdrl needs all rows of a group"),
        (TopD(), TopD(), "top_d needs all rows of a group"),
    ],
)
def test_a_sample_of_rows_is_trained_on_where_the_objective_would_have_had_the_same(
    tmp_path: Path, by: Objective, under: Objective, lacks: str | None
) -> None:
    rule = GroupRule.of(by, drop_uninformative=True)
    found = record(tmp_path, [[1, 0, 1]], whole=False, rule=rule)
    assert found.rule == rule
    if lacks is None:
        found.check(under)
        return
    with pytest.raises(recorded.RecordedError, match=f"{lacks}.* and .* holds a sample of its step's rows"):
        found.check(under)
