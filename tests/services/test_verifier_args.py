"""What a recipe, a Serve config file or a test says about judging reaches the verifier service."""

import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rlad_core.config import VerifierSettings, validate
from rlad_core.tasks import TaskSpec, shipped
from services.verifier.settings import VerifierArgs


def test_every_setting_of_the_recipe_arrives() -> None:
    settings = {"workers": 7, "time_limit_s": 2.5, "memory_limit_mib": 100}
    assert settings.keys() == VerifierSettings.model_fields.keys()
    recipe = {
        "name": "run",
        "policy": {"model": "tiny:student", "init": "random", "max_length": 512},
        "task": {"name": "knights_knaves", "train": {"people": [2]}, "evaluation": {"people": [2]}},
        "rollout": {"max_response_length": 256, "timeout_s": 1234.0},
        "verifier": settings,
        "stages": [{"steps": 1, "objective": {"kind": "grpo"}}],
    }
    args = VerifierArgs.of_run(validate(recipe, source="test"))
    assert args.model_dump(include=settings.keys()) == settings
    assert (args.run, list(args.tasks)) == ("run", ["knights_knaves"])
    # Groups of a step wait for each other's checks: the run's own patience is the limit, and no request is
    # too large, since an evaluation is one.
    assert args.limits.timeout_s == 1234.0
    assert args.limits.max_responses_per_request >= 10**9


def test_all_that_ship_are_judged_unless_somebody_says_otherwise() -> None:
    assert VerifierArgs().tasks == shipped()


def test_tasks_are_written_as_a_place_or_with_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    args = VerifierArgs.model_validate(
        {
            "time_limit_s": 5,
            "tasks": {
                "beside": "mine.py:Riddles",
                "installed": "my_package.riddles:Riddles",
                "arguments": {"place": "/mine.py:Riddles", "settings": {"bonus": 1}, "preload": "numpy"},
            },
        }
    )
    assert args.tasks == {
        "beside": TaskSpec(f"{tmp_path}/mine.py:Riddles", {}),
        "installed": TaskSpec("my_package.riddles:Riddles", {}),
        "arguments": TaskSpec("/mine.py:Riddles", {"bonus": 1}, "numpy"),
    }
    assert pickle.loads(pickle.dumps(args)) == args
    assert VerifierArgs.model_validate(args.model_dump()) == args


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("sudoku", "'sudoku' names no task; write module:Class, file.py:Class or {place"),
        (5, "5 names no task; write"),
        ({"settings": {}}, "names no task; write"),
        ({"place": "a.py:B", "setings": {}}, "setings is not known; a task has place, settings, preload"),
    ],
)
def test_what_names_no_task_is_refused(task: Any, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        VerifierArgs.model_validate({"tasks": {"mine": task}})
