"""A step's numbers, of groups without services."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from rlad_core import schema
from rlad_core.timeline import StageRow
from services.experience.groups import Group
from services.experience.joining import accepted, accepted_sequences
from services.experience.step_numbers import step_numbers
from services.learner.statistics import OTHERS
from services.learner.step_metrics import step_row

FINGERPRINT = "0" * 64


def group(
    position: int, *right: bool, ends: Sequence[str] = (), versions: Sequence[Sequence[int]] = ()
) -> Group:
    """With a response of 3 tokens, of 4, and so on; all stopped, and of version 0, where nothing is said."""
    name = f"p{position}#0"
    rows = [
        {
            "group_id": name,
            "prompt_id": f"p{position}",
            "prompt_token_ids": [1],
            "sample_index": sample,
            "response_token_ids": [5] * (3 + sample),
            "rollout_logprobs": [-1.0] * (3 + sample),
            "policy_versions": versions[sample] if versions else [0] * (3 + sample),
            "finish_reason": ends[sample] if ends else "stop",
            "response": "words",
        }
        for sample in range(len(right))
    ]
    rollouts = schema.build(schema.ROLLOUTS, rows, tokenizer_fingerprint=FINGERPRINT)
    verdicts = [
        {"sequence_id": f"{name}/{sample}", "reward": float(said), "reward_parts": {}, "correct": said,
         "verdict": ""}
        for sample, said in enumerate(right)
    ]  # fmt: skip
    rewards: pa.Table = schema.build(schema.REWARDS, verdicts, tokenizer_fingerprint=FINGERPRINT)
    return Group(position, rollouts, rewards, None)


@pytest.mark.parametrize(("counted", "wasted"), [(None, 4 + 3), (range(1), 3)])
def test_what_the_verifier_rejects_of_a_teachers_group_is_wasted(counted: range | None, wasted: int) -> None:
    kept, dropped = [group(0, True, False, True)], [group(1, False)]
    numbers = step_numbers(kept, dropped, counted)
    assert (numbers["responses"], numbers["tokens"], numbers["wasted_tokens"]) == (4, 3 + 4 + 5 + 3, wasted)
    sequences, groups = accepted_sequences(kept)
    assert schema.lengths(sequences.column("response_token_ids")).tolist() == [3, 5]
    assert groups == ["p0#0"] * 2


def test_no_objective_can_put_its_numbers_in_the_place_of_a_step_s() -> None:
    found = step_numbers([group(0, True, False)], [], range(1))
    row = step_row(0, "trrd", found, [StageRow("teacher", 1, 1.0, 1.0, 0.5, 1, 1)], seconds=2.0)
    assert set(row) <= OTHERS


def test_a_teachers_response_that_was_cut_off_is_not_trained_on() -> None:
    """It may be judged right by then, and as a whole turn it would teach to stop in the middle."""
    cut = group(0, True, True, False, ends=["length", "stop", "stop"])
    assert accepted(cut).tolist() == [False, True, False]
    sequences, _ = accepted_sequences([cut])
    assert schema.lengths(sequences.column("response_token_ids")).tolist() == [4]
    assert step_numbers([cut], [], None)["wasted_tokens"] == 3 + 5


def test_the_age_of_trained_tokens() -> None:
    """Step 5 with bound 1: versions 4 and 5 count. The second response was cut off."""
    versions = [[3, 4, 5], [4, 4, 4, 4], [2, 2, 5, 5, 5]]
    kept = [group(0, True, False, True, ends=["stop", "length", "stop"], versions=versions)]
    told = step_numbers(kept, [], range(4, 6))
    assert (told["stale_masked"], told["staleness_max"]) == (3, 1)
    assert told["staleness"] == pytest.approx(5 / 9)
    masked = step_numbers(kept, [], range(4, 6), masks=True)
    assert (masked["stale_masked"], masked["staleness_max"]) == (3, 1)
    assert masked["staleness"] == pytest.approx(1 / 5)
    cut_off = [group(0, True, ends=["length"], versions=[[4, 4, 4]])]
    assert "staleness" not in step_numbers(cut_off, [], range(4, 6), masks=True)
    nothing = step_numbers([], [group(1, True)], range(4, 6))  # all were dropped
    assert (nothing["stale_masked"], "staleness" in nothing) == (0, False)
