"""What a step's groups are, in numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlad_core.overlong import is_cut_off
from rlad_core.schema import flatten
from rlad_core.staleness import VERSIONS, young_tokens
from services.experience.groups import Group
from services.experience.joining import accepted


def step_numbers(
    kept: Sequence[Group], dropped: Sequence[Group], counted: range | None, *, masks: bool = False
) -> dict[str, float]:
    """The step's batch in numbers, by their names in metrics.jsonl.

    Rewards, accuracy and lengths are those of all responses that were sampled: leaving the uninformative
    groups out would make both look other than they are.

    Args:
        counted: policy versions whose tokens count, the last the policy's now; None where another model wrote
            them.
        masks: responses that were cut off do not count either.
    """
    sampled = [*kept, *dropped]
    rewards = np.concatenate([group.rewards.column("reward").to_numpy() for group in sampled])
    correct = np.concatenate([group.rewards.column("correct").to_numpy() for group in sampled])
    cut_off = np.concatenate([is_cut_off(group.rollouts) for group in sampled])
    tokens, wasted = (sum(group.response_tokens for group in groups) for groups in (sampled, dropped))
    if counted is None:  # of a group that is kept, what is not accepted is not trained on either
        wasted += sum(int(group.response_lengths[~accepted(group)].sum()) for group in kept)
    numbers = {
        "reward_mean": float(rewards.mean()),
        "accuracy": float(correct.mean()),
        "responses": len(rewards),
        "response_length": tokens / len(rewards),
        "truncated": int(cut_off.sum()),
        "truncated_share": int(cut_off.sum()) / len(cut_off),
        "groups": len(kept),
        "dropped_groups": len(dropped),
        "tokens": tokens,
        "wasted_tokens": wasted,
    }
    if counted is not None:
        numbers["stale_masked"] = 0
    if counted is not None and kept:
        made_by = np.concatenate([flatten(group.rollouts.column(VERSIONS))[0] for group in kept])
        young = made_by >= counted.start
        numbers["stale_masked"] = int(made_by.size - young.sum())
        if masks:
            young &= ~np.concatenate(
                [np.repeat(is_cut_off(group.rollouts), group.response_lengths) for group in kept]
            )
        if (trained := made_by[young]).size:
            numbers["staleness"] = float(counted[-1] - trained.mean())
            numbers["staleness_max"] = float(counted[-1] - trained.min())
    return numbers


def stale_tokens(groups: Sequence[Group], counted: range) -> dict[str, int]:
    """Tokens of versions older than those that count, by the id of each group that has some."""
    found = {
        group.group_id: group.response_tokens - int(young_tokens(group.rollouts, counted).sum())
        for group in groups
    }
    return {name: tokens for name, tokens in found.items() if tokens}
