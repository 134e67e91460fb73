"""`rlad init`: a folder whose recipe is right as it is, for every task; its run is that of the tutorial."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rlad_command import Said
from transformers import AutoTokenizer

from rlad_core.config import RunConfig, load, resolve_model
from rlad_core.prompt_checks import check
from rlad_core.prompt_stream import held_out_prompts, tasks_of, training_prompts
from rlad_core.tasks import SECTIONS
from rlad_core.tasks.knights_knaves.prompt import FORMAT_INSTRUCTION
from services.cli.init import InitError, run_name, starters, write

TASKS = sorted(starters())


def begun(folder: Path, task: str) -> RunConfig:
    write(folder, task)
    return load(folder / "recipe.yaml")


def test_every_task_that_ships_has_a_folder_to_begin_with() -> None:
    assert sorted(SECTIONS) == TASKS


@pytest.mark.parametrize("task", TASKS)
def test_the_folder_says_what_to_do_next_and_its_recipe_is_planned(
    rlad: Callable[..., Said], task: str, tmp_path: Path
) -> None:
    said = rlad("init", "my run", "--task", task)
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[1:] == ["  cd 'my run'", "  rlad plan recipe.yaml", "  rlad run recipe.yaml"]
    folder = tmp_path / "my run"
    written = {path.name for path in folder.iterdir()}
    assert all(name in said.out for name in written)
    assert written >= {"recipe.yaml", "README.md", "train.jsonl"}
    assert [path for path in folder.glob("*.py") if path.stem in ("task", "reward")]
    assert len((folder / "train.jsonl").read_text().splitlines()) == 10
    assert "    rlad run recipe.yaml\n" in (folder / "README.md").read_text()
    assert not [path for path in folder.iterdir() if "NAME" in path.read_text()]
    planned = rlad("plan", "my run/recipe.yaml")
    assert planned.code == 0
    assert planned.out.startswith("name: my-run\n")
    recipe = (folder / "recipe.yaml").read_text()
    assert recipe.count("#") > 15
    assert recipe.count("dtype: bfloat16") == 2  # of policy and teacher, for whoever goes on to a GPU
    assert max(map(len, recipe.splitlines())) <= 110


@pytest.mark.parametrize("task", TASKS)
def test_prompts_fit_the_tiny_models_and_responses_are_judged(task: str, tmp_path: Path) -> None:
    config = begun(tmp_path / "mine", task)
    tokenizer = AutoTokenizer.from_pretrained(resolve_model(config.policy.model))
    tasks = tasks_of(config)
    [label] = tasks
    trained = training_prompts(config, tasks)
    assert len(trained) == 10
    # Each step asks every row at most once.
    assert len(trained) % config.rollout.prompts_per_step == 0
    checked = check(config, tokenizer)
    assert (checked.training, checked.dropped) == (10, [])
    assert checked.longest + config.rollout.max_response_length <= config.policy.max_length
    assert {prompt.task for prompt in held_out_prompts(config, tasks)} == {label}
    mine = tasks[label]
    mine.warm_up()
    for prompt in trained[:2]:
        right, wrong = mine.verify(_right(task, prompt.gold), prompt.gold), mine.verify("What?", prompt.gold)
        assert (right.correct, wrong.correct) == (True, False)
        assert right.reward >= 1.0 > wrong.reward
        assert right.parts.keys() == wrong.parts.keys()


def _right(task: str, gold: str) -> str:
    """A response that is right."""
    fields = json.loads(gold)
    if task == "prompts":
        return f"<think> </think><answer> {fields['gold']} </answer>"
    if task == "math":
        return f"So it is \\boxed{{{fields['answer']}}}."
    people = [
        f"({number}) {name} is a {'knight' if truthful else 'knave'}"
        for number, (name, truthful) in enumerate(
            zip(fields["names"], fields["solution"], strict=True), start=1
        )
    ]
    return f"<think> So. </think><answer> {chr(10).join(people)} </answer>"


def test_what_the_files_change_of_the_shipped_tasks(tmp_path: Path) -> None:
    """A bonus for short replies, a share of the reward for some of the people."""
    [mine] = tasks_of(begun(tmp_path / "math", "math")).values()
    long = "Well. " * 100 + "\\boxed{5}"
    assert [mine.verify(each, '{"answer": "5"}').reward for each in ("\\boxed{5}", long, "\\boxed{6}")] == [
        1.1,
        1.0,
        0.0,
    ]
    prompts = begun(tmp_path / "prompts", "prompts")
    assert prompts.task is not None
    assert prompts.task.system == FORMAT_INSTRUCTION  # type: ignore[attr-defined]
    half = prompts.task.task().verify("<answer>a\nc</answer>", json.dumps({"gold": "a\nb"}))
    assert (half.reward, half.correct, half.parts) == (0.5, False, {"in_form": 1.0})


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("full",), "full exists already and is not empty. Write another name"),
        (("full/file",), "full/file is a file. Write another name"),
        (("new", "--task", "chess"), "--task: 'chess' is unknown. Write " + ", ".join(TASKS)),
        (("...",), "has no letter (a to z) or digit for the name of a run"),
        ((), "Missing argument 'NAME'"),
    ],
)
def test_what_is_in_the_way_is_left_alone(
    rlad: Callable[..., Said], tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    said = rlad("init", *arguments)
    assert said.code == 2
    assert says in said.err
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "file"]
    assert (tmp_path / "full" / "file").read_text() == "mine"


@pytest.mark.parametrize(
    ("folder", "why"),
    [("file/mine", "Not a directory"), ("/proc/mine", "No such file"), ("n" * 300, "File name too long")],
)
def test_a_place_where_nothing_can_be_written_is_told(
    rlad: Callable[..., Said], tmp_path: Path, folder: str, why: str
) -> None:
    (tmp_path / "file").write_text("mine")
    said = rlad("init", folder)
    assert said.code == 2
    assert f"{folder} cannot be written ({why}" in said.err
    assert said.err.rstrip().endswith("Write another place")


def test_names() -> None:
    said = {"a b": "a-b", "_x.1": "x.1", "über": "ber", "2026": "2026", "runs/deep": "deep"}
    assert {name: run_name(Path(name)) for name in said} == said
    with pytest.raises(InitError, match="no letter"):
        run_name(Path("--"))


@pytest.mark.parametrize("name", ["-mine", "n" * 250])
def test_what_a_folder_may_be_called_its_run_may_be_too(rlad: Callable[..., Said], name: str) -> None:
    said = rlad("init", "--", name)
    cd, *_ = (line.strip() for line in said.out.splitlines()[1:])
    there = subprocess.run(
        ["sh", "-c", f"{cd} && pwd"], capture_output=True, text=True, timeout=60, check=True
    )
    assert load(Path(there.stdout.strip(), "recipe.yaml")).name == name.strip("-")[:200]


def test_an_empty_folder_is_taken(rlad: Callable[..., Said], tmp_path: Path) -> None:
    assert rlad("init", ".").code == 0
    assert load(tmp_path / "recipe.yaml").name == run_name(tmp_path)
