"""Mini-batches in which no token counts: the policy, AdamW's moments and its count of steps stay."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from made_up_experience import GROUP_SIZE, GROUPS, experience, small_config
from ranks import join_ranks, start_ranks

from rlad_core.assembly import plan_shards
from rlad_core.config import RunConfig
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy

pytestmark = pytest.mark.timeout(300)

OLD, YOUNG = 0, 5
COUNTED = range(4, 6)
Told = dict[str, float]


def _table(versions: list[int]) -> tuple[pa.Table, list[str]]:
    """Experience whose groups' tokens are of these policy versions, the first groups alone."""
    table, groups = experience()
    rows = len(versions) * GROUP_SIZE
    lengths = [len(each) for each in table.column("response_token_ids").to_pylist()]
    made = [[versions[row // GROUP_SIZE]] * lengths[row] for row in range(rows)]
    place = table.column_names.index("policy_versions")
    column = pa.array(made, table.schema.field(place).type)
    return table.slice(0, rows).set_column(place, table.schema.field(place), column), groups[:rows]


def _step(
    policy: TrainedPolicy, config: RunConfig, step: int, versions: list[int], mini_batches: int
) -> dict[str, float]:
    table, groups = _table(versions)
    objective = config.stages[0].objective
    plan = plan_shards(
        table,
        groups=groups,
        mini_batches=mini_batches,
        ranks=dist.get_world_size(),
        token_weights=objective.token_weights,
        counted_versions=COUNTED,
    )[dist.get_rank()]
    told = policy.train_on(TrainingRows(table.take(plan.rows), plan), objective, step)
    return {name: each.mean for name, each in told.items()}


def _rank(
    rank: int, ranks: int, folder: str, out: str, steps: list[tuple[list[int], int]], saved: int | None
) -> None:
    """Goes through the steps; with `saved`, those from there on in a policy that a checkpoint was made of."""
    join_ranks(rank, ranks, out)
    config = small_config(Path(folder), learner__workers=ranks, rollout__max_staleness=1)
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    told: list[Told] = []
    for step, (versions, mini_batches) in enumerate(steps):
        if step == saved:
            dcp.save(policy.state(), checkpoint_id=Path(out) / "checkpoint")
            policy = TrainedPolicy(config, folder, torch.device("cpu"))
            policy.load(Path(out) / "checkpoint")
        told.append(_step(policy, config, step, versions, mini_batches))
    weights = {name: tensor.clone() for name, tensor in policy.whole_weights(torch.float32)}
    if rank == 0:
        made = [float(state["step"]) for state in policy.optimizer.state.values()]
        torch.save((weights, sorted(set(made))), f"{out}/found.pt")
        Path(out, "told.json").write_text(json.dumps(told))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


class Trained:
    """What steps made of the policy: weights, how many steps AdamW counts, what was told of each."""

    def __init__(
        self,
        folder: Path,
        out: Path,
        *steps: tuple[list[int], int],
        ranks: int = 1,
        saved: int | None = None,
    ) -> None:
        out.mkdir()
        start_ranks(_rank, ranks, str(folder), str(out), list(steps), saved)
        self.weights, self.steps_made = torch.load(out / "found.pt")
        self.told: list[Told] = json.loads((out / "told.json").read_text())

    def is_like(self, other: "Trained") -> bool:
        """To the bit."""
        return self.steps_made == other.steps_made and all(
            torch.equal(tensor, other.weights[name]) for name, tensor in self.weights.items()
        )


ALL: Any = ([YOUNG] * GROUPS, 1)
NONE: Any = ([OLD] * GROUPS, 2)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_step_of_old_tokens_alone_moves_nothing(folder: Path, tmp_path: Path, ranks: int) -> None:
    """Momentum of the step before would move the weights, and so would weight decay (0.01 here)."""
    before = Trained(folder, tmp_path / "before", ALL, ranks=ranks)
    after = Trained(folder, tmp_path / "after", ALL, NONE, ranks=ranks)
    assert after.is_like(before)
    assert after.steps_made == [1]
    assert after.told[1] == {"learning_rate": 0.01, "updates": 0, "empty_mini_batches": 2}


def test_a_mini_batch_of_old_tokens_is_as_if_it_were_not_there(folder: Path, tmp_path: Path) -> None:
    """Two mini-batches of one group; the other group alone, as one."""
    with_old = Trained(folder, tmp_path / "with", ([YOUNG, OLD], 2))
    alone = Trained(folder, tmp_path / "alone", ([YOUNG], 1))
    assert with_old.is_like(alone)
    told, wanted = with_old.told[0], alone.told[0]
    assert told == {**wanted, "updates": 1, "empty_mini_batches": 1}
    assert "kl_to_old" not in told  # the one update is the old policy's own


def test_groups_of_old_tokens_are_in_no_pass(folder: Path, tmp_path: Path) -> None:
    alone = Trained(folder, tmp_path / "alone", ([YOUNG, YOUNG], 1))
    beside = Trained(folder, tmp_path / "beside", ([YOUNG, YOUNG, OLD, OLD, OLD, OLD], 1))
    assert beside.is_like(alone)
    assert beside.told == alone.told


def test_statistics_leave_old_tokens_out_over_ranks(folder: Path, tmp_path: Path) -> None:
    alone = Trained(folder, tmp_path / "alone", ([YOUNG, YOUNG], 1))
    beside = Trained(folder, tmp_path / "beside", ([YOUNG, YOUNG, OLD, OLD, OLD, OLD], 1), ranks=2)
    assert beside.told[0] == pytest.approx(alone.told[0], rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("steps", [[NONE, ALL, ALL], [ALL, NONE, ALL]], ids=["first", "second"])
def test_a_run_that_is_resumed_after_an_empty_step_is_the_same(
    folder: Path, tmp_path: Path, steps: list[Any]
) -> None:
    straight = Trained(folder, tmp_path / "straight", *steps)
    resumed = Trained(folder, tmp_path / "resumed", *steps, saved=2 if steps[1] is NONE else 1)
    assert straight.steps_made == [2]
    assert resumed.is_like(straight)
    assert resumed.told == straight.told
