"""Finished groups as one table to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rlad_core import schema
from rlad_core.advantage import group_relative_advantages
from rlad_core.overlong import is_cut_off
from services.experience.groups import Group


def join_groups(
    groups: Sequence[Group],
    prompts: pa.Table,
    *,
    scale_advantages: bool = True,
    teacher_prompts: Mapping[str, Sequence[int]] | None = None,
) -> tuple[pa.Table, list[str]]:
    """EXPERIENCE of the groups with their advantages, and the group of each row.

    Args:
        prompts: PROMPTS that hold the groups' prompts.
        scale_advantages: by the spread of each group's rewards.
        teacher_prompts: see `rlad_core.schema.join_experience`.
    """
    if not groups:
        return schema.EXPERIENCE.empty_table(), []
    # A chunk for each group: tokens are copied once, when each rank's rows are taken.
    rollouts = pa.concat_tables([group.rollouts for group in groups])
    rewards = pa.concat_tables([group.rewards for group in groups])
    scores = [group.teacher_scores for group in groups if group.teacher_scores is not None]
    reference = [group.reference_scores for group in groups if group.reference_scores is not None]
    reward_of = dict(zip(rewards["sequence_id"].to_pylist(), rewards["reward"].to_pylist(), strict=True))
    ids = schema.sequence_ids(rollouts).to_pylist()
    group_ids = rollouts.column("group_id").to_pylist()
    rewards_of_rows = [reward_of[sequence] for sequence in ids]
    advantages = group_relative_advantages(rewards_of_rows, group_ids, scale=scale_advantages).advantages
    experience = schema.join_experience(
        rollouts,
        prompts=prompts,
        rewards=rewards,
        advantages=dict(zip(ids, advantages.tolist(), strict=True)),
        teacher_scores=pa.concat_tables(scores) if scores else None,
        reference_scores=pa.concat_tables(reference) if reference else None,
        teacher_prompts=teacher_prompts,
    )
    return experience, group_ids


def accepted(group: Group) -> npt.NDArray[np.bool_]:
    """Which rows of a demonstrator's rollouts are trained on: right, and not cut off, bool [N].

    A whole turn that was cut off would teach to stop in the middle.
    """
    right = dict(
        zip(group.rewards["sequence_id"].to_pylist(), group.rewards["correct"].to_pylist(), strict=True)
    )
    ids = schema.sequence_ids(group.rollouts).to_pylist()
    return np.array([right[sequence] for sequence in ids], np.bool_) & ~is_cut_off(group.rollouts)


def accepted_sequences(groups: Sequence[Group]) -> tuple[pa.Table, list[str]]:
    """SEQUENCES of the responses that are `accepted`, and the group of each row."""
    if not groups:
        return schema.SEQUENCES.empty_table(), []
    rollouts = pa.concat_tables([group.rollouts.filter(pa.array(accepted(group))) for group in groups])
    return schema.to_sequences(rollouts), rollouts.column("group_id").to_pylist()
