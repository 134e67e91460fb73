"""What a step's groups are, in numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rlad_core.overlong import is_cut_off
from rlad_core.staleness import tokens_by_version
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
        numbers["stale_masked"] = sum(stale_tokens(kept, counted).values())
        trained: Counter[int] = Counter()
        for group in kept:
            trained.update(_trained_by_version(group, counted, masks=masks))
        if total := trained.total():
            numbers["staleness"] = (
                sum((counted[-1] - each) * count for each, count in trained.items()) / total
            )
            numbers["staleness_max"] = float(counted[-1] - min(trained))
    return numbers


def stale_tokens(groups: Sequence[Group], counted: range) -> dict[str, int]:
    """Tokens of versions older than those that count, by the id of each group that has some."""
    found = {
        group.group_id: sum(
            count for version, count in group.tokens_by_version.items() if version < counted.start
        )
        for group in groups
    }
    return {name: tokens for name, tokens in found.items() if tokens}


def _trained_by_version(group: Group, counted: range, *, masks: bool) -> dict[int, int]:
    found = group.tokens_by_version
    if masks and (cut_off := is_cut_off(group.rollouts)).any():
        found = tokens_by_version(group.rollouts.filter(pa.array(~cut_off)))
    return {version: count for version, count in found.items() if version >= counted.start}
