"""The user's code in a run's folder: copied with its hash when a run begins, used from there afterwards."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from rlad_core.config import RunConfig, load
from rlad_core.sections import code
from services.report.records import read_run
from services.run import folder
from services.run.errors import RunError

REWARD = (
    "from helper import LIMIT\n\n\ndef score(response, gold, row):\n    return min(len(response), LIMIT)\n"
)
RECIPE = """
name: mine
policy: {{model: "tiny:student", init: random, max_length: 512}}
task:
  name: prompts
  train: {{files: [{{path: train.jsonl}}]}}
  evaluation: {{files: [{{path: test.jsonl}}]}}
  reward: reward.py:score
rollout: {{max_response_length: 256}}
stages: [{{steps: 1, objective: {{kind: grpo}}}}]
output: {{dir: {runs}}}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    home = tmp_path / "home of mine"
    home.mkdir()
    (home / "reward.py").write_text(REWARD)
    (home / "helper.py").write_text("LIMIT = 9\n")
    for name in ("train", "test"):
        (home / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "gold": 1}) + "\n")
    file = home / "recipe.yaml"
    file.write_text(RECIPE.format(runs=tmp_path / "runs"))
    return file


def begin(recipe: Path) -> tuple[RunConfig, Path]:
    config = load(recipe)
    run_dir = Path(config.run_dir).absolute()
    config, remarks = folder.begin(config, run_dir)
    assert remarks == []
    return config, run_dir


def reward_of(config: RunConfig) -> Any:
    section: Any = config.task
    return section.reward


def test_a_run_keeps_the_code_with_its_hash_and_uses_its_copy(recipe: Path) -> None:
    config, run_dir = begin(recipe)
    place = reward_of(config)
    copy = Path(place.rpartition(":")[0])
    assert copy.is_relative_to(run_dir / "code")
    assert copy.read_text() == REWARD
    assert (copy.parent / "helper.py").is_file()
    assert code.load(place)("a" * 20, None, {}) == 9
    origin = json.loads((run_dir / "code" / "origin.json").read_text())
    assert origin[str(recipe.parent / "reward.py")]["sha256"] == hashlib.sha256(REWARD.encode()).hexdigest()
    # The folder may be moved: its recipe names the copy relative to itself.
    assert str(run_dir) not in (run_dir / "recipe.yaml").read_text().partition("output:")[0]
    moved = run_dir.rename(run_dir.with_name("moved"))
    assert Path(reward_of(load(moved / "recipe.yaml")).rpartition(":")[0]).is_relative_to(moved)
    assert read_run(moved).recipe is not None


@pytest.mark.parametrize("by", ["the run's own recipe", "the recipe at home"])
def test_a_resume_uses_the_copy_and_says_what_changed(recipe: Path, by: str) -> None:
    begun, run_dir = begin(recipe)
    (recipe.parent / "helper.py").write_text("LIMIT = 10\n")
    again = load(run_dir / "recipe.yaml" if by == "the run's own recipe" else recipe)
    config, remarks = folder.resume(again, run_dir)
    assert reward_of(config) == reward_of(begun)
    assert code.load(reward_of(config))("a" * 20, None, {}) == 9
    [remark] = remarks
    assert remark.startswith(f"{recipe.parent / 'helper.py'} has changed since the run began")


def test_what_became_of_the_code_at_home_keeps_no_run_from_going_on(recipe: Path) -> None:
    begun, run_dir = begin(recipe)
    (recipe.parent / "helper.py").write_bytes(b"LIMIT = 10  # \xe9\n")
    config, [remark] = folder.resume(load(run_dir / "recipe.yaml"), run_dir)
    assert reward_of(config) == reward_of(begun)
    assert remark.startswith(f"{recipe.parent / 'helper.py'} has changed since the run began")


def test_code_from_elsewhere_is_another_recipe(recipe: Path) -> None:
    _, run_dir = begin(recipe)
    (recipe.parent / "other.py").write_text(REWARD)
    config = load(recipe, [f"task.reward={recipe.parent / 'other.py'}:score"])
    with pytest.raises(RunError, match=r"the recipe differs[^\0]*task\.reward: "):
        folder.resume(config, run_dir)


def test_a_run_without_users_code_has_no_folder_for_it(tmp_path: Path) -> None:
    config = load("kk-tiny-trrd", [f"output.dir={tmp_path}"])
    run_dir = Path(config.run_dir)
    prepared, _ = folder.begin(config, run_dir)
    assert prepared == config
    assert [path.name for path in run_dir.iterdir()] == ["recipe.yaml"]


def test_code_that_runs_at_home_alone_is_refused_and_leaves_nothing(recipe: Path) -> None:
    (recipe.parent / "words.txt").write_text("words")
    (recipe.parent / "reward.py").write_text(
        "import pathlib\n\nWORDS = pathlib.Path(__file__).with_name('words.txt').read_text()\n\n\n"
        "def score(response): return response in WORDS\n"
    )
    config = load(recipe)
    run_dir = Path(config.run_dir).absolute()
    with pytest.raises(RunError, match=r"task\.reward .*FileNotFoundError: .*\(reward\.py, line 3\)"):
        folder.begin(config, run_dir)
    assert not list(run_dir.iterdir())


def test_code_of_a_start_that_failed_is_none_of_the_run_that_begins_in_its_folder(recipe: Path) -> None:
    _, run_dir = begin(recipe)
    begin(run_dir / "recipe.yaml")  # its code is what that start had copied
    (recipe.parent / "reward.py").write_text("def score(response, gold, row):\n    return 0.0\n")
    without = load("kk-tiny-trrd", [f"output.dir={run_dir.parent}", "name=mine"])
    assert folder.begin(without, run_dir) == (without, [])
    assert not (run_dir / "code").exists()
