"""Which Ray cluster a run joins, whether it begins or continues, and the nodes its roles are sent to."""

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rlad_core.config import RunConfig, ServeTeacher, load
from services.learner.trainer import build_trainer
from services.rollout.settings import RolloutArgs
from services.run import folder
from services.run import run as runs
from services.run.watch import Watcher
from services.serve.cluster import joined_address
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
