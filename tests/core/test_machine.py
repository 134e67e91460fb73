"""What a run needs of this machine, and what cannot be seen from it."""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from rlad_core.config import ConfigError, load, machine


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def problems(*overrides: str) -> list[str]:
    return [str(problem) for problem in machine.machine_problems(load("kk-tiny-trrd", overrides))]


def test_a_folder_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    assert problems(f"output.dir={tmp_path}/runs") == []
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    [problem] = problems(f"output.dir={tmp_path}/runs")
    assert "is a file. Write a folder" in problem


def test_an_embedded_ray_has_a_cpu_for_all_that_starts() -> None:
    # Rollouts, scoring teacher, verifier, learner; a teacher that demonstrates too runs as a service more.
    assert problems("cluster.num_cpus=4") == []
    [problem] = problems("cluster.num_cpus=3")
    assert "replicas and ranks reserve 4 (num_cpus of each; the verifier 1). Write 4 or more" in problem
    stages = (
        "stages=[{steps: 1, objective: {kind: sft, source: teacher}}, {steps: 9, objective: {kind: trrd}}]"
    )
    both = (stages, "learner.warmup_steps=0", "teacher.num_replicas=6")
    assert load("kk-tiny-trrd", both).reserved_cpus == 1 + 6 + 6 + 1 + 1
    assert load("kk-tiny-trrd", both[1:]).reserved_cpus == 1 + 6 + 1 + 1


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(100, 90, 10))
    [problem] = problems(f"output.dir={tmp_path}")
    assert "has 0.00 GiB left, and a checkpoint takes 0.06" in problem


def test_room_for_checkpoints_is_wanted_where_they_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 10**9
    monkeypatch.setattr(machine, "_checkpoint_bytes", lambda _: size)
    here, there = f"output.dir={tmp_path}/runs", f"output.checkpoints={tmp_path}/there"
    (tmp_path / "there").mkdir()

    def free(folder: Path) -> Usage:
        return Usage(size, 0, 10 if folder == tmp_path / "there" else size // 2)

    monkeypatch.setattr(machine.shutil, "disk_usage", free)
    [problem] = problems(here)
    assert problem.startswith("output.dir (")
    assert "has 0.47 GiB left, and a checkpoint takes 0.93" in problem
    assert problems(here, "output.checkpoints=memory://bucket/runs") == []
    [problem] = problems(here, there)
    assert problem.startswith("output.checkpoints (")
    assert problems(here, there, "cluster.address=auto") == []


def test_an_address_that_nothing_reads_is_told_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    [problem] = problems("output.checkpoints=simplecache::s3://bucket/runs")
    assert "Install s3fs to access S3. Do so, or write a folder" in problem
    [problem] = problems("output.checkpoints=nowhere://bucket/runs")
    assert "Protocol not known: nowhere. Write an address that fsspec knows, or a folder" in problem
    assert problems("output.checkpoints=memory://runs") == []


def test_a_checkpoint_of_adapters_has_no_moments_of_the_model() -> None:
    whole, adapters = (
        machine._checkpoint_bytes(load("kk-tiny-trrd", more)) for more in ([], ["learner.lora={rank: 2}"])
    )
    assert whole == 3 * adapters > 0


def test_a_folder_that_takes_nothing(tmp_path: Path) -> None:
    """As on a full or read-only disk: the kernel refuses to write there."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        [problem] = problems(f"output.dir={tmp_path}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "cannot be written to: File too large" in problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    [problem] = problems(f"output.dir={tmp_path}")
    assert "cannot be written to: Permission denied" in problem


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        [problem] = problems(f"telemetry.metrics_port={port}")
        assert f"port {port} of 127.0.0.1 cannot be had: Address already in use" in problem
        assert problems(f"telemetry.metrics_port={port}", "cluster.address=ray://elsewhere:10001") == []


def test_the_home_directory_is_meant_by_a_tilde(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load("kk-tiny-trrd", ["output.dir=~/runs"]).run_dir == f"{tmp_path}/runs/kk-tiny-trrd"
    (tmp_path / "mine.yaml").write_text((Path("deploy/recipes/kk-tiny-trrd.yaml").absolute()).read_text())
    assert load("~/mine.yaml").name == "kk-tiny-trrd"


def test_what_is_not_here_is_listed(tmp_path: Path) -> None:
    config = load("kk-tiny-trrd", ["policy.model=Qwen/Qwen3-0.6B", "teacher={kind: http, url: 'http://t:1'}"])
    hub, teacher = machine.unchecked(config)
    assert hub == "policy.model Qwen/Qwen3-0.6B: is on the hub, and fetched when the run starts"
    assert teacher == "teacher http://t:1: is asked when the run starts"
    assert machine.unchecked(load("kk-tiny-trrd")) == []
    files = (
        "task={name: math, train: {files: [{path: /no/a.jsonl}]}, evaluation: {files: [{path: /no/b.jsonl}]}}"
    )
    there = load("kk-tiny-trrd", [files, "cluster.address=auto", "policy.max_length=512"])
    assert machine.unchecked(there) == [
        "task.train.files.0.path /no/a.jsonl: is not here; the cluster may have it",
        "task.evaluation.files.0.path /no/b.jsonl: is not here; the cluster may have it",
    ]
    models = ["policy.model=/no/policy", "teacher.model=/no/teacher"]
    elsewhere = load("kk-tiny-trrd", [*models, "cluster.address=head:6379"])
    assert machine.unchecked(elsewhere) == [
        "policy.model /no/policy: is not here; the cluster may have it",
        "teacher.model /no/teacher: is not here; the cluster may have it",
    ]
    assert machine.machine_problems(elsewhere) == []
    for more in ([], ["cluster.address=head:6379", "policy.init=random"]):  # random weights are made here
        with pytest.raises(ConfigError, match=r"there is no such folder \(/no/policy\)"):
            load("kk-tiny-trrd", [models[0], *more])
