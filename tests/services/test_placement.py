"""Which Ray cluster a run joins, whether it begins or continues, and the nodes its roles are sent to."""

import random
from pathlib import Path
from typing import Any

import pytest
from ray._private.label_utils import validate_label_selector
from rich.console import Console

from rlad_core.config import ConfigError, RunConfig, ServeTeacher, load
from rlad_core.config.places import checked
from services.learner.trainer import build_trainer
from services.rollout.settings import RolloutArgs
from services.run import folder
from services.run import run as runs
from services.run.watch import Watcher
from services.serve.cluster import joined_address
from services.teacher import service as teacher
from services.teacher.settings import TeacherArgs
from services.verifier.service import build
from services.verifier.settings import VerifierArgs


def recipe(*overrides: str) -> RunConfig:
    return load("kk-tiny-trrd", overrides)


@pytest.mark.parametrize(
    ("variable", "address", "joined"),
    [
        (None, None, None),
        ("10.0.0.1:6379", None, "10.0.0.1:6379"),  # as in a pod of KubeRay, or under `ray job submit`
        ("local", None, None),
        ("10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.2:6379"),
        (None, "auto", "auto"),
    ],
)
def test_the_cluster_that_a_run_joins(
    variable: str | None, address: str | None, joined: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if variable:
        monkeypatch.setenv("RAY_ADDRESS", variable)
    config = recipe(*([f"cluster.address={address}"] if address else []))
    assert joined_address(config.cluster) == joined


def test_a_teacher_over_two_nodes_reserves_every_gpu_or_none() -> None:
    args = TeacherArgs(
        model="Qwen/Qwen3-235B-A22B", engine="vllm", tensor_parallel_size=8, pipeline_parallel_size=2,
        num_gpus=16, num_cpus=8, node_labels={"rlad-role": "teacher"},
    )  # fmt: skip
    [deployment] = [teacher.build(args)._bound_deployment]
    options = deployment._replica_config
    assert options.placement_group_bundles == [{"CPU": 8.0}, *({"GPU": 1.0} for _ in range(16))]
    assert options.placement_group_strategy == "PACK"
    assert options.placement_group_bundle_label_selector == [{"rlad-role": "teacher"}] * 17
    assert options.ray_actor_options["num_gpus"] == 0
    alone = teacher.build(TeacherArgs(model="rlad:kk-teacher", node_labels={"a": "b"}))._bound_deployment
    assert alone._replica_config.placement_group_bundles is None
    assert alone._replica_config.ray_actor_options["label_selector"] == {"a": "b"}


def test_gpus_that_are_not_the_product_are_refused() -> None:
    with pytest.raises(ValueError, match="write 16, their product"):
        TeacherArgs(model="m", engine="vllm", tensor_parallel_size=8, pipeline_parallel_size=2, num_gpus=8)
    with pytest.raises(ValueError, match="needs engine: vllm"):
        TeacherArgs(model="m", pipeline_parallel_size=2, num_gpus=2)
    with pytest.raises(ConfigError, match=r"pipeline_parallel_size of them\. Write 4"):
        recipe(
            "teacher.engine=vllm", "teacher.tensor_parallel_size=2", "teacher.pipeline_parallel_size=2",
            "teacher.num_gpus=2",
        )  # fmt: skip


class _Reached(Exception):
    """The run got past its preparation."""


@pytest.mark.parametrize(("begun", "resumes"), [(False, False), (True, True)])
def test_a_restartable_run_resumes_where_it_was_begun(
    begun: bool, resumes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = recipe(f"output.dir={tmp_path}")
    asked: list[bool] = []

    def stop(config: RunConfig, run_dir: Path, resume: bool, fork: Any) -> Any:
        asked.append(resume)
        raise _Reached

    if begun:
        folder.begin(config, Path(config.run_dir))
        (Path(config.run_dir) / "metrics.jsonl").write_text('{"step": 0}\n')
    monkeypatch.setattr(runs, "prepared", stop)
    with pytest.raises(_Reached):
        runs.run(config, restartable=True, watcher=Watcher(Console(quiet=True), config.total_steps))
    assert asked == [resumes]


def test_roles_are_sent_to_nodes_with_their_labels() -> None:
    roles = ("rollout", "teacher", "learner")
    config = recipe(*(f"{role}.node_labels.rlad-role={role}" for role in roles))
    assert RolloutArgs.of_run(config, "m").node_labels == {"rlad-role": "rollout"}
    assert isinstance(config.teacher, ServeTeacher)
    assert TeacherArgs.of_run(config, config.teacher, 1.0).node_labels == {"rlad-role": "teacher"}
    assert build_trainer(config, "m").scaling_config.label_selector == {"rlad-role": "learner"}
    built = build(VerifierArgs(node_labels={"rlad-role": "services"}))
    options = built._bound_deployment.ray_actor_options
    assert options["label_selector"] == {"rlad-role": "services"}


@pytest.mark.parametrize(("limit", "seconds"), [("0.2", 1), ("1.5", 2), ("1800", 1800)])
def test_ranks_wait_for_each_other_as_long_as_the_recipe_says_and_never_not_at_all(
    limit: str, seconds: int
) -> None:
    trainer = build_trainer(recipe(f"learner.timeout_s={limit}"), "m")
    assert trainer.backend_config.timeout_s == seconds


def test_labels_of_nodes_are_those_that_ray_takes() -> None:
    generator = random.Random(0)

    def text(parts: list[str]) -> str:
        return "".join(generator.choices(parts, k=generator.randrange(6)))

    names = [text([*"aB1-_./ ,!", "a" * 62]) for _ in range(20_000)]
    pairs = [(name, text([*"aB1-_./ ,!()", "in(", ", ", "a" * 62])) for name in names]
    taken = 0
    for name, wanted in [*pairs, ("rlad-role", "teacher"), ("ray.io/node-id", "!in(a, b)")]:
        by_ray = validate_label_selector({name: wanted}) is None
        try:
            checked({name: wanted})
        except ValueError:
            assert not by_ray or "/" in name  # Ray takes domains with empty parts
        else:
            assert by_ray
            taken += 1
    assert taken > 400
