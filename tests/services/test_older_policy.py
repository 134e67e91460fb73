"""A teacher that is an older version of the policy, on real FSDP2 ranks: what it tells, by transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from made_up_experience import experience, planned, small_config
from ranks import join_ranks, start_ranks
from torch.distributed.checkpoint import FileSystemReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.config import RunConfig
from rlad_core.objectives.trrd import TRRD
from rlad_core.schema.declarations import TEACHER_PROMPT_IDS
from services.learner.older_rows import read_by_older, told_by_older
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy

pytestmark = pytest.mark.timeout(600)

PREFIX = [7, 8, 9]
ENDS = (3, 4)
STEPS = 4


def _recipe(folder: Path, teacher: dict[str, Any] | None, **changes: Any) -> RunConfig:
    values = small_config(folder, **changes).model_dump(mode="json")
    return RunConfig.model_validate(values if teacher is None else {**values, "teacher": teacher})


def _table(privileged: bool) -> tuple[pa.Table, list[str]]:
    """Experience that another teacher has scored, with what a privileged one would read."""
    table, groups = experience()
    if privileged:
        place = table.column_names.index(TEACHER_PROMPT_IDS.name)
        ids = pa.array([PREFIX + each for each in table.column("prompt_token_ids").to_pylist()])
        field = table.schema.field(place)
        table = table.set_column(place, field, ids.cast(field.type))
    return table, groups


def _rank(
    rank: int,
    ranks: int,
    folder: str,
    out: str,
    teacher: dict[str, Any] | None,
    changes: dict[str, Any],
    told: list[list[float]] | None,
    saved: int | None,
    forks: bool,
) -> None:
    """Trains; with `saved`, from there on in a policy made of a checkpoint. Rank 0 keeps what the teacher
    told in each step, by sequence, and the weights before it.

    Args:
        told: what the rows hold of a served teacher.
    """
    join_ranks(rank, ranks, out)
    config = _recipe(Path(folder), teacher, learner__workers=ranks, **changes)
    policy = TrainedPolicy(config, folder, torch.device("cpu"))
    table, groups = _table(bool(teacher and teacher.get("prefix")))
    if told is not None:
        place = table.column_names.index("teacher_logprobs")
        field = table.schema.field(place)
        table = table.set_column(place, field, pa.array(told, field.type))
    objective = config.stages[0].objective
    plan = planned(config, table, groups, ranks)[rank]
    ids = schema.sequence_ids(table).take(pa.array(plan.rows)).to_pylist()
    kept = []
    for step in range(STEPS):
        if step == saved:
            dcp.save(policy.state(), checkpoint_id=Path(out) / "checkpoint")
            policy = TrainedPolicy(config, folder, torch.device("cpu"))
            policy.load(Path(out) / "checkpoint", forks=forks)
        weights = {name: tensor.clone() for name, tensor in policy.whole_weights(torch.float32)}
        rows = TrainingRows(table.take(plan.rows), plan, ENDS)
        policy.train_on(rows, objective, step)
        values = {name: rows._values.get(name) for name in ("teacher_logprobs", "teacher_end_logprobs")}
        bounds = np.cumsum(rows.response_lengths)[:-1]
        mine = {
            name: dict(zip(ids, np.split(value, bounds), strict=True))
            for name, value in values.items()
            if value is not None
        }
        everybody: list[Any] = [None] * ranks
        dist.all_gather_object(everybody, mine)
        kept.append(
            (weights, {name: {k: v for each in everybody for k, v in each[name].items()} for name in mine})
        )
    last = {name: tensor.clone() for name, tensor in policy.whole_weights(torch.float32)}
    if rank == 0:
        torch.save((kept, last), f"{out}/kept.pt")
    dist.destroy_process_group()


Steps = list[tuple[dict[str, torch.Tensor], dict[str, dict[str, np.ndarray]]]]


def _trained(
    folder: Path,
    out: Path,
    teacher: dict[str, Any] | None,
    *,
    ranks: int = 1,
    told: list[list[float]] | None = None,
    saved: int | None = None,
    forks: bool = False,
    **changes: Any,
) -> tuple[Steps, dict[str, torch.Tensor]]:
    out.mkdir(exist_ok=True)
    start_ranks(_rank, ranks, str(folder), str(out), teacher, changes, told, saved, forks)
    found: tuple[Steps, dict[str, torch.Tensor]] = torch.load(out / "kept.pt", weights_only=False)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


def _by_transformers(folder: Path, weights: dict[str, torch.Tensor], *, privileged: bool) -> dict[str, Any]:
    """Log-probs of each response under these weights in float64, and of both end tokens at each place."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    model.load_state_dict({name: tensor.double() for name, tensor in weights.items()}, strict=False)
    tokens = len(AutoTokenizer.from_pretrained(folder))  # rows of the head beyond are padding
    found = {}
    for row in _table(privileged)[0].to_pylist():
        prompt = row[TEACHER_PROMPT_IDS.name if privileged else "prompt_token_ids"]
        response = row["response_token_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        logprobs = logits[:, :tokens].log_softmax(dim=1)
        own = logprobs.gather(1, torch.tensor(response)[:, None])[:, 0]
        found[row["sequence_id"]] = own.numpy(), float(logprobs[-1, list(ENDS)].logsumexp(0))
    return found


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("every", [2, None])
def test_it_tells_what_the_policy_of_then_gives_to_what_a_privileged_teacher_reads(
    folder: Path, tmp_path: Path, every: int | None, ranks: int
) -> None:
    teacher = {"kind": "policy", "every": every, "prefix": "{answer}"}
    small = {"learner__tokens_per_micro_batch": 64 + 512, "learner__updates_per_batch": 2}
    kept, _ = _trained(folder, tmp_path / "out", teacher, ranks=ranks, **small)
    assert len(kept) == STEPS
    for step, (_, told) in enumerate(kept):
        then = kept[0 if every is None else step // every * every][0]
        wanted = _by_transformers(folder, then, privileged=True)
        assert told["teacher_logprobs"].keys() == wanted.keys()
        for sequence, (own, end) in wanted.items():
            np.testing.assert_allclose(told["teacher_logprobs"][sequence], own, atol=2e-5, rtol=0)
            # At the end of a response, where alone it is asked.
            assert told["teacher_end_logprobs"][sequence][-1] == pytest.approx(end, abs=2e-5)
    # The policy has moved in between by far more than that.
    first, last = (_by_transformers(folder, kept[step][0], privileged=True) for step in (0, STEPS - 1))
    assert max(np.abs(first[each][0] - last[each][0]).max() for each in first) > 1e-2


def test_of_the_start_it_is_a_served_teacher_with_the_policys_model(folder: Path, tmp_path: Path) -> None:
    changes = {"objective": {"kind": "trrd", "mask_end_token": True}, "learner__updates_per_batch": 2}
    _, own = _trained(folder, tmp_path / "own", {"kind": "policy"}, **changes)
    start = {
        name: tensor.float()
        for name, tensor in AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        .state_dict()
        .items()
    }
    wanted = _by_transformers(folder, start, privileged=False)
    ids = schema.sequence_ids(experience()[0]).to_pylist()
    served = [wanted[each][0].astype(np.float32).tolist() for each in ids]
    _, theirs = _trained(folder, tmp_path / "served", None, told=served, **changes)
    for name, tensor in theirs.items():
        moved = (tensor - start[name]).norm() if name in start else tensor.norm()
        assert (own[name] - tensor).norm() < 1e-3 * moved, name


def test_renewed_in_every_step_it_is_the_old_policy_and_trrd_is_grpo(folder: Path, tmp_path: Path) -> None:
    changes = {"learner__updates_per_batch": 2, "learner__lr": 1e-4}  # within the clamp
    trrd = {"kind": "trrd", "mask_end_token": True}
    _, found = _trained(folder, tmp_path / "trrd", {"kind": "policy", "every": 1}, objective=trrd, **changes)
    _, wanted = _trained(folder, tmp_path / "grpo", None, objective={"kind": "grpo"}, **changes)
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[name], tensor, atol=2e-6, rtol=0, msg=name)


def test_a_checkpoint_has_it_and_a_fork_begins_with_its_own(folder: Path, tmp_path: Path) -> None:
    teacher = {"kind": "policy", "every": 2}
    straight, end = _trained(folder, tmp_path / "straight", teacher)
    resumed, found = _trained(folder, tmp_path / "resumed", teacher, saved=3)  # renewed before the third step
    for name, tensor in end.items():
        torch.testing.assert_close(found[name], tensor, atol=0, rtol=0, msg=name)
    two, _ = _trained(folder, tmp_path / "two", teacher, ranks=2, saved=3)
    forked, _ = _trained(folder, tmp_path / "forked", teacher, saved=3, forks=True)
    for sequence, told in straight[3][1]["teacher_logprobs"].items():
        assert (resumed[3][1]["teacher_logprobs"][sequence] == told).all()
        np.testing.assert_allclose(two[3][1]["teacher_logprobs"][sequence], told, atol=1e-3, rtol=0)
    wanted = _by_transformers(folder, forked[3][0], privileged=False)
    for sequence, (own, _) in wanted.items():
        np.testing.assert_allclose(forked[3][1]["teacher_logprobs"][sequence], own, atol=2e-5, rtol=0)


def test_of_adapters_it_keeps_those_alone(folder: Path, tmp_path: Path) -> None:
    lora = {"rank": 2, "alpha": 4}
    kept, _ = _trained(folder, tmp_path / "out", {"kind": "policy", "every": 2}, learner__lora=lora)
    for step, (_, told) in enumerate(kept):
        wanted = _by_transformers(folder, kept[step // 2 * 2][0], privileged=False)
        for sequence, (own, _) in wanted.items():
            np.testing.assert_allclose(told["teacher_logprobs"][sequence], own, atol=2e-5, rtol=0)


def test_it_is_kept_for_a_stage_that_a_resumed_run_may_have(folder: Path, tmp_path: Path) -> None:
    _trained(folder, tmp_path / "out", {"kind": "policy"}, saved=2, objective={"kind": "grpo"})
    known = FileSystemReader(tmp_path / "out" / "checkpoint").read_metadata().state_dict_metadata
    policy, older = (
        {name.removeprefix(part) for name in known if name.startswith(part)}
        for part in ("model.", "older_policy.")
    )
    assert older
    assert policy - older == {"model.lm_head.weight"}  # which is the embedding


def test_nothing_of_another_teachers_is_left_in_recorded_rows() -> None:
    table, groups = experience()
    lengths = schema.lengths(table.column("response_token_ids")).tolist()
    for name, value in (("top_token_ids", 1), ("top_logprobs", -0.5), ("teacher_end_logprobs", -0.5)):
        place = table.column_names.index(name)
        field = table.schema.field(place)
        each = 2 if name.startswith("top") else 1
        told = pa.array([[value] * each * length for length in lengths], field.type)
        table = table.set_column(place, field, told)
    weights = TRRD().token_weights
    [plan] = plan_shards(table, groups=groups, mini_batches=1, ranks=1, token_weights=weights)
    rows = TrainingRows(table.take(plan.rows), plan, ENDS)
    read = read_by_older(rows, privileged=False, unites_end_tokens=False)
    assert (rows.has_top, list(rows.united_ends)) == (True, [3, 4])
    assert (read.has_top, list(read.united_ends)) == (False, [])
    one = np.array([2])
    logprobs = torch.full((int(rows.response_lengths[2]),), -1.5)
    rows.take_from_teacher(told := told_by_older(read, [(one, logprobs)]))
    assert (rows.has_top, list(rows.united_ends), list(told)) == (False, [], ["teacher_logprobs"])
    known = ~np.isnan(told["teacher_logprobs"])
    start = int(rows.response_lengths[:2].sum())
    assert np.flatnonzero(known).tolist() == list(range(start, start + len(logprobs)))
    assert (told["teacher_logprobs"][known] == -1.5).all()
