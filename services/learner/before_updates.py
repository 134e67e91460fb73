"""What a step asks of policies before its first update.

teach ----------------> keep_old -----------------> the updates (optimizer_step.py)
an older policy's       of the policy as it is:
log-probs, where it     log-probs, and advantages
is the teacher          of tokens against their groups
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlad_core.batching import Indices
from rlad_core.config.teachers import PolicyTeacher
from rlad_core.objectives import Objective
from rlad_core.objectives.returns import TokenReturns
from services.base.telemetry import span
from services.learner.asked_objective import returns_of
from services.learner.group_returns import group_advantages, of_rows
from services.learner.older_policy import OlderPolicy
from services.learner.older_rows import read_by_older, told_by_older
from services.learner.passes import Passes
from services.learner.training_rows import TrainingRows


def teach(
    passes: Passes,
    rows: TrainingRows,
    wanted: Indices,
    objective: Objective,
    stage_step: int,
    older: OlderPolicy,
    teacher: PolicyTeacher,
) -> None:
    """Have the wanted rows scored by an older version of the policy, their teacher."""
    read = read_by_older(
        rows, privileged=teacher.prefix is not None, unites_end_tokens=objective.compares_end_tokens
    )
    tokens = int(rows.response_lengths[wanted].sum())
    with span("teacher", items=len(wanted), tokens=tokens), older.in_place():
        through = passes.through(read, wanted, objective, stage_step)
        asked = ((each.members, each.logprobs) for each in through if each.members.size)
        rows.take_from_teacher(told_by_older(read, asked))


@torch.no_grad()
def keep_old(
    passes: Passes, rows: TrainingRows, taught: Sequence[int], objective: Objective, stage_step: int
) -> None:
    """Note what the updates need of the policy before them.

    Args:
        taught: the step's mini-batches. The first is trained on by the old policy itself, whose own pass
            tells its log-probs; but advantages are made of all mini-batches before.
    """
    asked = taught if objective.normalises_returns else taught[1:]
    if not asked or not rows.needs_old_logprobs:
        return
    wanted = rows.of_mini_batches(asked)
    returns: dict[int, TokenReturns] = {}
    with span("old_logprobs", items=len(wanted), tokens=int(rows.response_lengths[wanted].sum())):
        for each in passes.through(rows, wanted, objective, stage_step):
            members = each.members
            if not members.size:
                continue
            passes.note_old(each, objective, stage_step)
            if objective.normalises_returns:
                told = returns_of(objective, each.batch, stage_step)
                returns |= of_rows(members.tolist(), rows.response_lengths[members].tolist(), told)
        if objective.normalises_returns:
            rows.token_advantages = group_advantages(returns, rows.table.column("group_id").to_pylist())
