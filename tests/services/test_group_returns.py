"""TOP-D's token advantages on real ranks: those of whole groups, however a step's rows are split."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from made_up_experience import experience, planned, small_config, train_ranks
from ranks import join_ranks, start_ranks

from rlad_core.objectives.returns import TokenReturns
from services.learner.group_returns import group_advantages, of_rows
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy

pytestmark = pytest.mark.timeout(300)

TOP_D = {"kind": "top_d", "share": 0.3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


def _given(values: list[float], counts: list[int] | None = None) -> TokenReturns:
    counted = [1] * len(values) if counts is None else counts
    return TokenReturns(torch.tensor(values, dtype=torch.float64), torch.tensor(counted, dtype=torch.bool))


# Group a: 1 and 2 | 6 and a 99 that does not count, mean 3, deviation sqrt(14 / 3). b: 4 | 4. c: 0 that does
# not count. d: 0 | 2e-7, which rounding may be. e: 5 without another.
ROWS = {
    "a": [_given([1, 2]), _given([6, 99], [1, 0])],
    "b": [_given([4]), _given([4])],
    "c": [_given([0], [0])],
    "d": [_given([0]), _given([2e-7])],
    "e": [_given([5])],
}
DEVIATION = (14 / 3) ** 0.5
WANTED = {
    "a": [[-2 / DEVIATION, -1 / DEVIATION], [3 / DEVIATION, 0]],
    "b": [[0], [0]],
    "c": [[0]],
    "d": [[0], [0]],
    "e": [[0]],
}


def _normalise(rank: int, ranks: int, out: str) -> None:
    join_ranks(rank, ranks, out, f"meeting-{ranks}")
    every = [(group, number) for group, rows in ROWS.items() for number in range(len(rows))]
    mine = every[rank::ranks]
    found = group_advantages(
        {row: ROWS[group][number] for row, (group, number) in enumerate(mine)}, [group for group, _ in mine]
    )
    for row, (group, number) in enumerate(mine):
        assert found[row].dtype == torch.float32
        assert found[row].tolist() == pytest.approx(WANTED[group][number], abs=1e-6), (group, number)
    dist.destroy_process_group()


@pytest.mark.parametrize("ranks", [1, 2, 9])
def test_mean_and_deviation_are_those_of_a_groups_tokens_on_all_ranks(tmp_path: Path, ranks: int) -> None:
    """With 9, the last has no rows."""
    start_ranks(_normalise, ranks, str(tmp_path))


def test_the_returns_of_a_micro_batch_are_its_rows() -> None:
    found = of_rows([7, 3], [2, 1], _given([1, 2, 3], [1, 0, 1]))
    assert {row: (each.values.tolist(), each.counts.tolist()) for row, each in found.items()} == {
        7: ([1, 2], [True, False]),
        3: ([3], [True]),
    }


def _advantages(rank: int, ranks: int, folder: str, out: str, changes: dict[str, Any]) -> None:
    """Trains one step; writes what each of the rank's rows had as old log-probs and advantages."""
    join_ranks(rank, ranks, out)
    config = small_config(Path(folder), objective=TOP_D, **changes)
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    table, groups = experience()
    objective = config.stages[0].objective
    plan = planned(config, table, groups, ranks)[rank]
    rows = TrainingRows(table.take(plan.rows), plan)
    told = policy.train_on(rows, objective, 0)
    assert set(rows.token_advantages) == set(range(len(rows)))
    found = {
        int(plan.rows[row]): [rows.old.logprobs[row].tolist(), each.tolist()]
        for row, each in rows.token_advantages.items()
    }
    numbers = {name: each.mean for name, each in told.items()}
    Path(out, f"rank-{rank}.json").write_text(json.dumps([found, numbers]))
    dist.destroy_process_group()


def _wanted(old: dict[int, list[float]]) -> tuple[dict[int, list[float]], float]:
    """Advantages of each row and the mean reward, in float64 and token by token."""
    table, groups = experience()
    teacher = table.column("teacher_logprobs").to_pylist()
    rewards = {
        row: [np.log(0.3 * np.exp(t - o) + 0.7) for t, o in zip(teacher[row], old[row], strict=True)]
        for row in old
    }
    returns = {
        row: [r + (np.mean(each[k + 1 :]) if k + 1 < len(each) else 0.0) for k, r in enumerate(each)]
        for row, each in rewards.items()
    }
    wanted: dict[int, list[float]] = {}
    for group in set(groups):
        members = [row for row in old if groups[row] == group]
        together = np.concatenate([returns[row] for row in members])
        for row in members:
            wanted[row] = [float((each - together.mean()) / together.std()) for each in returns[row]]
    return wanted, float(np.mean(np.concatenate([*rewards.values()])))


SPLITS: dict[str, dict[str, Any]] = {
    "small micro-batches": {"learner__tokens_per_micro_batch": 64},
    "three mini-batches": {"learner__updates_per_batch": 3, "learner__tokens_per_micro_batch": 64},
    "two epochs": {"learner__epochs_per_batch": 2, "learner__updates_per_batch": 2},
    "two ranks": {"learner__workers": 2},
    "two ranks, three mini-batches": {"learner__workers": 2, "learner__updates_per_batch": 3},
}


Told = tuple[dict[int, list[list[float]]], dict[str, float]]


def _step(folder: Path, out: Path, changes: dict[str, Any]) -> Told:
    """Old log-probs and advantages of all rows, and the step's numbers."""
    out.mkdir()
    ranks = changes.get("learner__workers", 1)
    start_ranks(_advantages, ranks, str(folder), str(out), changes)
    told = [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(ranks)]
    return {int(row): each for rows, _ in told for row, each in rows.items()}, told[0][1]


@pytest.fixture(scope="module")
def whole(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """One update on one rank in one micro-batch, which begins with the policy before the step."""
    return _step(folder, tmp_path_factory.mktemp("whole") / "out", {})


def test_advantages_by_hand(whole: Told) -> None:
    found, numbers = whole
    assert len(found) == len(experience()[0])
    wanted, reward = _wanted({row: old for row, (old, _) in found.items()})
    for row, (_, advantages) in found.items():
        assert advantages == pytest.approx(wanted[row], abs=1e-5), row
    assert numbers["token_reward"] == pytest.approx(reward)
    assert numbers["token_advantage"] == pytest.approx(0, abs=1e-6)
    assert numbers["ratio"] == pytest.approx(1, abs=1e-5)
    assert "kl_to_old" not in numbers  # the one update is the old policy's own


@pytest.mark.parametrize("changes", SPLITS.values(), ids=SPLITS)
def test_advantages_are_those_of_whole_groups_under_the_policy_before_the_step(
    folder: Path, tmp_path: Path, whole: Told, changes: dict[str, Any]
) -> None:
    found, numbers = _step(folder, tmp_path / "out", changes)
    assert found.keys() == whole[0].keys()
    for row, (old, advantages) in found.items():
        assert old == pytest.approx(whole[0][row][0], abs=1e-5), row
        assert advantages == pytest.approx(whole[0][row][1], abs=1e-3), row
    assert numbers["token_reward"] == pytest.approx(whole[1]["token_reward"], rel=1e-4)
    assert numbers["token_advantage"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    "split",
    [{"learner__tokens_per_micro_batch": 64}, {"ranks": 2, "learner__workers": 2}],
    ids=["small micro-batches", "two ranks"],
)
def test_splits_move_the_policy_alike(folder: Path, tmp_path: Path, split: dict[str, Any]) -> None:
    start, _ = train_ranks(folder, tmp_path / "start", steps=0, objective=TOP_D)
    whole, numbers = train_ranks(folder, tmp_path / "whole", objective=TOP_D)
    parts, told = train_ranks(folder, tmp_path / "parts", objective=TOP_D, **split)
    assert told == pytest.approx(numbers, rel=1e-3, abs=1e-5)
    for name, tensor in whole.items():
        assert (parts[name] - tensor).norm() < 1e-2 * (tensor - start[name]).norm(), name


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("None", "TypeError: token_returns gave a NoneType, not TokenReturns"),
        (
            "TokenReturns(batch.weights[:1], batch.trained)",
            r"ValueError: token_returns gave \(1,\) for \d+ response tokens; give one value for each",
        ),
        ("1 / 0", r"ZeroDivisionError: division by zero \(loss.py, line 6\)"),
    ],
)
def test_what_goes_wrong_in_returns_of_ones_own_is_told(
    folder: Path, tmp_path: Path, answer: str, says: str
) -> None:
    place = tmp_path / "loss.py"
    place.write_text(
        "from rlad_core.objectives.grpo import GRPO\nfrom rlad_core.objectives.returns import TokenReturns\n"
        "class Mine(GRPO):\n    normalises_returns = True\n"
        f"    def token_returns(self, batch, step):\n        return {answer}\n"
    )
    with pytest.raises(mp.ProcessRaisedException, match=f"the objective Mine failed: {says}"):
        train_ranks(folder, tmp_path / "out", objective={"kind": f"{place}:Mine"})
