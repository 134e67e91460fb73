"""Where weights and gradients lie changes nothing of a step: one step of SGD, which moves by gradients."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from test_trained_policy import _config, _experience, _run

from rlad_core.assembly import plan_shards
from services.learner.sharding import check_backends
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.run.initial_policy import write_initial_policy

MODES: dict[str, dict[str, Any]] = {
    "local": {"learner__gradients": "local"},
    "scattered": {"learner__gradients": "scattered"},
    "scattered, recomputed": {
        "learner__gradients": "scattered",
        "learner__activation_checkpointing": "full",
    },
    "copies": {"learner__gradients": "scattered", "learner__fsdp_size": 1},
    "offloaded": {"learner__gradients": "scattered", "learner__cpu_offload": True},
}


def moves(rank: int, ranks: int, folder: str, out: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{out}/rendezvous", rank=rank, world_size=ranks)
    torch.set_num_threads(1)
    table, groups = _experience(200)
    found = {}
    for mode, changes in MODES.items():
        config = _config(Path(folder), learner__workers=ranks, learner__tokens_per_micro_batch=64, **changes)
        policy = TrainedPolicy(config, folder, torch.device("cpu"))
        policy.optimizer = torch.optim.SGD(policy.module.parameters(), lr=1.0)
        objective = config.stages[0].objective
        plans = plan_shards(
            table, groups=groups, mini_batches=1, ranks=ranks, token_weights=objective.token_weights
        )
        policy._optimizer_step(TrainingRows(table.take(plans[rank].rows), plans[rank]), 0, objective, 0)
        found[mode] = {name: tensor.clone() for name, tensor in policy.whole_weights(torch.float32)}
    torch.save(found, f"{out}/rank-{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


def test_gradients_are_the_same_wherever_they_lie(folder: Path, tmp_path: Path) -> None:
    mp.start_processes(moves, args=(2, str(folder), str(tmp_path)), nprocs=2, start_method="forkserver")
    found, other = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in range(2))
    expected = found.pop("local")
    assert max(float(tensor.abs().max()) for tensor in expected.values()) > 0.01
    for mode, state in found.items():
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0, msg=f"{mode}: {name}")
            assert torch.equal(tensor, other[mode][name]), f"{mode}: {name}"  # also of the other copy


def test_gradients_in_host_memory_need_a_backend_for_it() -> None:
    for gpus, offload, backends in ((0, True, "gloo"), (1, False, "nccl"), (1, True, "cpu:gloo,cuda:nccl")):
        changes = {"learner__num_gpus": gpus, "learner__cpu_offload": offload}
        assert _config(Path("owner/name"), **changes).learner.process_group == backends
    check_backends("cuda", "cpu:gloo,cuda:nccl")
    check_backends("cpu", "cpu:gloo")
    with pytest.raises(ValueError, match=r"process group \(cuda:nccl\) .* backends cpu:gloo,cuda:nccl"):
        check_backends("cuda", "cuda:nccl")


@pytest.mark.long
@pytest.mark.timeout(1800)  # torchao compiles a step for each shape
@pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao (the extra 'memory')")
def test_moments_in_8_bits_go_where_those_in_32_do(folder: Path, tmp_path: Path) -> None:
    expected, _ = _run(folder, tmp_path / "32", steps=2)
    found, _ = _run(folder, tmp_path / "8", steps=2, learner__optimizer="adamw_8bit")
    start, _ = _run(folder, tmp_path / "0", steps=0)
    for name, tensor in expected.items():
        assert (found[name] - tensor).norm() < 0.2 * (tensor - start[name]).norm(), name
    _run(folder, tmp_path / "8", steps=3, resume=True, learner__optimizer="adamw_8bit")
