"""What an update takes and gradients in host memory need, and moments in 8 bits as torchao compiles them."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from made_up_experience import small_config, train_ranks

from services.learner.sharding import check_backends
from services.run.initial_policy import write_initial_policy


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_initial_policy("tiny:student", 0, tmp_path_factory.mktemp("policy") / "model")


def test_gradients_in_host_memory_need_a_backend_for_it() -> None:
    for gpus, offload, backends in ((0, True, "gloo"), (1, False, "nccl"), (1, True, "cpu:gloo,cuda:nccl")):
        changes = {"learner__num_gpus": gpus, "learner__cpu_offload": offload}
        assert small_config(Path("owner/name"), **changes).learner.process_group == backends
    check_backends("cuda", "cpu:gloo,cuda:nccl")
    check_backends("cpu", "cpu:gloo")
    with pytest.raises(ValueError, match=r"process group \(cuda:nccl\) .* backends cpu:gloo,cuda:nccl"):
        check_backends("cuda", "cuda:nccl")


@pytest.mark.long
@pytest.mark.timeout(1800)  # torchao compiles a step for each shape
@pytest.mark.skipif(find_spec("torchao") is None, reason="needs torchao (the extra 'memory')")
def test_moments_in_8_bits_go_where_those_in_32_do(folder: Path, tmp_path: Path) -> None:
    expected, _ = train_ranks(folder, tmp_path / "32", steps=2)
    found, _ = train_ranks(folder, tmp_path / "8", steps=2, learner__optimizer="adamw_8bit")
    start, _ = train_ranks(folder, tmp_path / "0", steps=0)
    for name, tensor in expected.items():
        assert (found[name] - tensor).norm() < 0.2 * (tensor - start[name]).norm(), name
    train_ranks(folder, tmp_path / "8", steps=3, resume=True, learner__optimizer="adamw_8bit")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_an_update_takes_what_is_planned(dtype: str) -> None:
    """Micro-batches as full as they may be, of sequences beside which a prompt that is shared is short."""
    sizes = ("--sequences", "4", "--lengths", "1964", "--tokens", "4048", "--dtype", dtype)
    once = ("--only-ours", "--repeats", "1", "--threads", "1")
    command = (sys.executable, "-m", "benchmarks.learner", *sizes, *once)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, cwd=root, env=os.environ | {"COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    row = re.search(r"^│ learner .*│ ([\d.]+) +│$", done.stdout, re.MULTILINE)
    assert row, done.stdout + done.stderr[-2000:]
    assert float(row[1]) == pytest.approx(1, rel=0.15)
