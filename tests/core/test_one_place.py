"""Something new is one place: an objective one file, a task one folder; nothing else is touched for it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

OBJECTIVE = '''
"""REINFORCE: the log-prob times the advantage, no ratio and no clip."""

from __future__ import annotations

from pydantic import PositiveFloat

from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.objective import Objective


class Reinforce(Objective):
    kind: str = "reinforce"
    scale: PositiveFloat = 1.0

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        loss = -(self.scale * batch.policy_logprobs * batch.advantages * batch.weights).sum()
        return ObjectiveOutput(loss, {"versions": Statistic.of(batch.policy_versions)})
'''
SETTINGS = """
from typing import ClassVar

from rlad_core.tasks.base import Task, TaskSpec, Verdict
from rlad_core.tasks.section import Part, TaskSection


class Echo(Task):
    name: ClassVar[str] = "echo"

    def prompts(self, split, subset, count, seed):
        return [self.prompt(f"Say {split}.", split)]

    def verify(self, response, gold):
        return Verdict(float(response == gold), {}, response == gold, "")


class Settings(TaskSection):
    name: str = "echo"
    judges_alone: ClassVar[TaskSpec] = TaskSpec("rlad_core.tasks.echo.settings:Echo", {})

    @property
    def train_parts(self):
        return (Part("train", "all", None, 0),)

    @property
    def evaluation_parts(self):
        return (Part("test", "all", None, 0),)

    def task(self):
        return Echo()

    def judge(self):
        return self.judges_alone
"""
PROGRAM = """
import torch
from rlad_core.config import ConfigError, validate
from rlad_core.objectives import TokenBatch
from rlad_core.prompt_stream import held_out_prompts, tasks_of
from rlad_core.tasks import shipped

recipe = {
    "name": "new", "policy": {"model": "tiny:student", "init": "random"}, "task": {"name": "echo"},
    "stages": [{"steps": 1, "objective": {"kind": "reinforce", "scale": 2.0}}],
}
config = validate(recipe, "the test")
ones = torch.ones(2)
batch = TokenBatch(
    policy_logprobs=-ones, old_logprobs=-ones, rollout_logprobs=-ones, advantages=ones, weights=ones / 2,
    policy_versions=torch.tensor([3, 4]),
)
output = config.stages[0].objective(batch, 0)
[prompt] = held_out_prompts(config, tasks_of(config))
print(output.loss.item(), output.statistics["versions"].mean, prompt.gold)
print("echo" in shipped())
try:
    validate({**recipe, "stages": [{"steps": 1, "objective": {"kind": "reinforce", "scale": 0}}]}, "the test")
except ConfigError as error:
    print(error.problems[0].path)
"""


def test_an_objective_is_one_file_and_a_task_one_folder(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "rlad_core", tmp_path / "rlad_core", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "rlad_core" / "objectives" / "reinforce.py").write_text(OBJECTIVE)
    (tmp_path / "rlad_core" / "tasks" / "echo").mkdir()
    (tmp_path / "rlad_core" / "tasks" / "echo" / "__init__.py").touch()
    (tmp_path / "rlad_core" / "tasks" / "echo" / "settings.py").write_text(SETTINGS)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.split() == ["2.0", "3.5", "test", "True", "stages.0.objective.scale"], done.stderr
