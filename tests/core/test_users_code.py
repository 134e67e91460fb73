"""Code that users bring: found by its place, told by file and line, carried to other processes."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rlad_core.config import ConfigError, RunConfig, dump, load, validate
from rlad_core.sections import code
from rlad_core.tasks import OwnTask, own_task

RIDDLES = """
from rlad_core.tasks import Task, Verdict


class Riddles(Task):
    subsets = ("easy", "hard")

    def __init__(self, file="", bonus=0.0):
        if bonus > 1:
            raise ValueError(f"bonus is {bonus}; at most 1 makes sense")
        self.file, self.bonus = file, bonus

    def prompts(self, split, subset, count, seed):
        asked = [self.prompt(f"{split} {subset} {number}?", str(number), subset) for number in range(5)]
        return asked[:count]

    def verify(self, response, gold):
        right = response.strip() == gold
        return Verdict(float(right), {"right": float(right)}, right, "right" if right else "wrong")
"""
OBJECTIVE = """
from typing import Literal

from pydantic import Field
from rlad_core.objectives import ClippedSurrogate


class Scaled(ClippedSurrogate):
    scale: float = Field(default=2.0, gt=0)

    def __call__(self, batch, step):
        log_ratio = batch.policy_logprobs - batch.old_logprobs
        return self.surrogate(batch, log_ratio, self.scale * batch.advantages)
"""
TEACHER = """
from rlad_core import schema
from rlad_core.config import OwnTeacher


class Halves(OwnTeacher):
    logprob: float = -0.5

    async def score(self, sequences):
        lengths = schema.lengths(sequences.column("response_token_ids"))
        logprobs = [[self.logprob] * length for length in lengths]
        return schema.build(
            schema.TEACHER_SCORES,
            {"sequence_id": sequences.column("sequence_id"), "teacher_logprobs": logprobs},
            tokenizer_fingerprint=schema.fingerprint_of(sequences),
        )
"""
RECIPE = """
name: mine
policy: {model: "tiny:student", init: random, max_length: 512}
teacher: {kind: "teacher.py:Halves", logprob: -0.25}
task: {name: "tasks.py:Riddles", settings: {file: words.txt}, train: {subsets: [easy], count: 3}}
rollout: {max_response_length: 256}
stages: [{steps: 1, objective: {kind: "objective.py:Scaled", scale: 3.0}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("tasks", RIDDLES), ("objective", OBJECTIVE), ("teacher", TEACHER)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "words.txt").write_text("words")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path


def refusal(folder: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder / "recipe.yaml", overrides)
    return str(caught.value)


def test_a_recipe_takes_task_objective_and_teacher_by_path_relative_to_itself(folder: Path) -> None:
    config = load(folder / "recipe.yaml")
    objective, teacher = config.stages[0].objective, config.teacher
    assert (objective.label, objective.scale) == ("Scaled", 3.0)  # type: ignore[attr-defined]
    assert objective.kind == f"{folder}/objective.py:Scaled"
    assert teacher is not None
    assert (teacher.where, teacher.logprob) == ("Halves", -0.25)  # type: ignore[attr-defined]
    assert isinstance(config.task, OwnTask)
    assert config.task.label == "Riddles"
    assert [(part.split, part.subset, part.count) for part in config.task.train_parts] == [
        ("train", "easy", 3)
    ]
    assert [part.subset for part in config.task.evaluation_parts] == ["easy", "hard"]
    # A file beside the recipe is found wherever the code runs.
    assert config.task.settings == {"file": str(folder / "words.txt")}
    assert config.teachers_of("Riddles") == ("teacher",)


def test_files_are_found_wherever_they_stand_in_a_tasks_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(folder))
    written = "{file: {train: [words.txt, none.txt], test: ~/words.txt}, bonus: 0.5}"
    (folder / "recipe.yaml").write_text(RECIPE.replace("{file: words.txt}", written))
    words = str(folder / "words.txt")
    config = load(folder / "recipe.yaml")
    assert isinstance(config.task, OwnTask)
    assert config.task.settings == {"file": {"train": [words, "none.txt"], "test": words}, "bonus": 0.5}


def test_a_method_that_ships_can_be_derived_from(folder: Path) -> None:
    (folder / "objective.py").write_text(
        "from rlad_core.objectives.trrd import TRRD\nclass Scaled(TRRD):\n    scale: float\n"
    )
    config = load(folder / "recipe.yaml", ["stages.0.objective.alpha=0.25"])
    [stage] = config.model_dump(mode="json")["stages"]
    assert stage["objective"]["kind"] == f"{folder}/objective.py:Scaled"
    assert (stage["objective"]["scale"], stage["objective"]["alpha"]) == (3.0, 0.25)


def test_what_is_typed_is_relative_to_where_one_types(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "objective.py").write_text(OBJECTIVE.replace("2.0", "7.0"))
    monkeypatch.chdir(elsewhere)
    typed = load("../recipe.yaml", ["stages.0.objective={kind: objective.py:Scaled}"])
    assert typed.stages[0].objective.scale == 7.0  # type: ignore[attr-defined]
    assert load("../recipe.yaml").stages[0].objective.scale == 3.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("stages.0.objective.scale=0", "stages.0.objective.scale (0): must be above 0"),
        ("stages.0.objective.scael=1", "stages.0.objective.scael (1): no such key. Did you mean scale?"),
        ("teacher.logprob=high", "teacher.logprob ('high'): is no number"),
        ("task.settings.bonus=2", "task.settings ("),
        ("task.settings.bonus=2", "bonus is 2; at most 1 makes sense (tasks.py, line 10)"),
        ("task.settings.oops=2", "unexpected keyword argument 'oops'"),
        (
            "task.train.subsets=[odd]",
            "task.train.subsets ('odd'): is no subset of Riddles. Write some of",
        ),
        ("task.train.cuont=1", "task.train.cuont (1): no such key. Did you mean count?"),
        ("task.name=nowhere.py:Riddles", "nowhere.py cannot be read: No such file or directory"),
        ("task.name=json:Riddles", "there is no Riddles in json; it has "),
        ("stages.0.objective.kind=no_such_package.x:Y", "the module no_such_package.x cannot be imported"),
        (
            "stages.0.objective.kind=objective:Y",
            "Of a file write objective.py:NAME.",
        ),
        ("stages.0.objective.kind=json:loads", "loads is no objective: its class must derive from"),
        ("teacher.kind=json:JSONDecoder", "JSONDecoder is no teacher: its class must derive from"),
    ],
)
def test_what_is_wrong_is_told_by_field_and_file(folder: Path, override: str, says: str) -> None:
    assert says in refusal(folder, override)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Scaled(:", "SyntaxError"),
        ("class Scaled(:", "(objective.py, line 1)"),
        ("\n\n1 / 0", "ZeroDivisionError: division by zero (objective.py, line 3)"),
        ("import sys\nsys.exit(3)", "SystemExit: 3 (objective.py, line 2)"),
        ("import no_such_module", "No module named 'no_such_module' (objective.py, line 1)"),
        ("from rlad_core.objectives import Objective\nclass Scaled(Objective): ...", "it has no __call__"),
        ("Scaled = 3", "Scaled is no objective"),
    ],
)
def test_a_file_that_does_not_run_is_told_by_its_line(folder: Path, text: str, says: str) -> None:
    (folder / "objective.py").write_text(text)
    said = refusal(folder)
    assert "stages.0.objective.kind (" in said
    assert says in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("class Riddles: ...", "Riddles is no task: it has no prompts and no verify"),
        ("def Riddles(): ...", "Riddles is no class but function"),
        (
            "from rlad_core.tasks import Task\nclass Riddles(Task):\n    def verify(self, a, b): ...",
            "no prompts",
        ),
    ],
)
def test_a_class_that_is_no_task_is_told_what_it_lacks(folder: Path, text: str, says: str) -> None:
    (folder / "tasks.py").write_text(text)
    assert says in refusal(folder)


def test_a_class_with_the_methods_alone_is_a_task(folder: Path) -> None:
    (folder / "tasks.py").write_text(
        RIDDLES.replace("(Task)", "").replace("self.prompt(", "Task.prompt(self, ")
    )
    config = load(folder / "recipe.yaml")
    assert config.task is not None
    task = config.task.task()
    assert (task.name, task.is_users, task.can_hang) == ("Riddles", True, True)
    [prompt] = task.prompts("test", "hard", 1, 0)
    assert (prompt.task, prompt.subset, prompt.gold) == ("Riddles", "hard", "0")
    assert task.verify("0", "0").correct
    with pytest.raises(ValueError, match="no worked solutions"):
        task.demonstration("0")


def test_a_file_may_import_those_beside_it_and_none_takes_the_place_of_ours(folder: Path) -> None:
    for name in ("services", "rlad_core", "json"):
        (folder / f"{name}.py").write_text("raise RuntimeError('a file of the user')")
    (folder / "weights.py").write_text("from more_weights import SCALE")
    (folder / "more_weights.py").write_text("SCALE = 5.0")
    text = "import json\nimport services\nfrom weights import SCALE\n" + OBJECTIVE.replace("2.0", "SCALE")
    (folder / "objective.py").write_text(text)
    config = load(
        folder / "recipe.yaml", ["stages.0.objective={kind: " + f"{folder}/objective.py:Scaled" + "}"]
    )
    assert config.stages[0].objective.scale == 5.0  # type: ignore[attr-defined]
    carried = {Path(path).name for path in config.code}
    assert carried >= {"tasks.py", "teacher.py", "objective.py", "weights.py", "more_weights.py"}


def test_a_pickled_recipe_brings_its_code_to_where_the_files_are_not(folder: Path, tmp_path: Path) -> None:
    config = load(folder / "recipe.yaml")
    (folder / "config.pickle").write_bytes(pickle.dumps(config))
    for name in ("tasks", "objective", "teacher"):
        (folder / f"{name}.py").unlink()
    program = (
        "import pickle, sys\n"
        f"config = pickle.loads(open({str(folder / 'config.pickle')!r}, 'rb').read())\n"
        "task = config.task.task()\n"
        "[prompt] = task.prompts('train', 'easy', 1, 0)\n"
        "print(config.stages[0].objective.scale, config.teacher.where, prompt.gold)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.split() == ["3.0", "Halves", "0"], done.stderr


def test_what_is_dumped_is_read_back(folder: Path) -> None:
    config = load(folder / "recipe.yaml")
    (folder / "again.yaml").write_text(dump(config))
    assert load(folder / "again.yaml").model_dump() == config.model_dump()
    assert RunConfig.model_validate(config.model_dump(mode="json")).model_dump() == config.model_dump()


def test_a_class_or_a_function_judges_without_a_recipe(folder: Path) -> None:
    (folder / "reward.py").write_text("def score(response, gold, row):\n    return response == gold\n")
    name, spec = own_task(f"{folder}/tasks.py:Riddles")
    assert (name, spec.place, spec.settings) == ("Riddles", f"{folder}/tasks.py:Riddles", {})
    name, spec = own_task(f"{folder}/reward.py:score")
    assert name == "score"
    assert spec.settings["reward"] == f"{folder}/reward.py:score"
    with pytest.raises(TypeError, match="neither a task's class nor a function"):
        own_task("json:__name__")


@pytest.mark.parametrize("text", ["rlad:kk-student", "a:b:", ":x", "x:", "http://host", "x:1y", "", 3, None])
def test_what_is_no_place(text: Any) -> None:
    assert not code.is_place(text)


def test_prompts_with_a_reward_function(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(
        '{"question": "1 + 1?", "answer": 2}\n{"question": "1 + 2?", "answer": 3}\n'
    )
    (tmp_path / "test.jsonl").write_text('{"question": "2 + 2?", "answer": 4}\n')
    (tmp_path / "reward.py").write_text("def score(response, gold, row):\n    return response == str(gold)\n")
    recipe = {
        "name": "sums",
        "policy": {"model": "tiny:student", "init": "random", "max_length": 512},
        "task": {
            "name": "prompts",
            "train": {"files": [{"path": "train.jsonl"}]},
            "evaluation": {"files": [{"path": "test.jsonl"}]},
            "columns": {"prompt": "question", "gold": "answer"},
            "system": "Say the number.",
            "reward": "reward.py:score",
            "correct_at": 1.0,
        },
        "rollout": {"max_response_length": 256},
        "stages": [{"steps": 1, "objective": {"kind": "grpo"}}],
    }
    config = validate(recipe, "the test", folder=tmp_path)
    assert config.task is not None
    task = config.task.task()
    [first, second] = task.prompts("train", "train", None, 0)
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert task.verify("2", first.gold).correct
    assert not task.verify("2", second.gold).correct
    assert config.code == {f"{tmp_path}/reward.py": (tmp_path / "reward.py").read_text()}
    wrong = [
        ({"reward": "reward.py:scroe"}, "task.reward ("),
        ({"reward": "reward.py"}, "names no function. Write file.py:NAME"),
        (
            {"columns": {"propmt": "question"}},
            "task.columns.propmt ('question'): no such key. Did you mean",
        ),
        ({"train": {"files": [{"path": "none.jsonl"}]}}, "there is no such file. Write the path of one"),
    ]
    for change, says in wrong:
        with pytest.raises(ConfigError) as caught:
            validate({**recipe, "task": {**recipe["task"], **change}}, "the test", folder=tmp_path)
        assert says in str(caught.value)


def test_files_of_two_folders_each_import_their_own_neighbour(tmp_path: Path) -> None:
    text = "import other\nfrom helper import NAME\n\n\ndef both():\n    return NAME + other.NAME\n"
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "reward.py").write_text(text)
        (tmp_path / name / "helper.py").write_text(f"NAME = {name!r}\n")
        (tmp_path / name / "other.py").write_text("from helper import NAME\n")
    one, two = (code.load(f"{tmp_path}/{name}/reward.py:both") for name in ("one", "two"))
    assert (one(), two()) == ("oneone", "twotwo")
    assert code.load(f"{tmp_path}/one/reward.py:both") is one


def test_a_setting_that_is_no_file_stays_as_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "code").mkdir()
    written = (folder / "recipe.yaml").read_text()
    settings = f"settings: {{word: code, much: {'long ' * 99}, place: ./code, empty: ''"
    (folder / "tasks.py").write_text(
        "from rlad_core.tasks import Task\n"
        "class Riddles(Task):\n"
        "    subsets = ('easy', 'hard')\n"
        "    def __init__(self, **settings): ...\n"
        "    def prompts(self, split, subset, count, seed): ...\n"
        "    def verify(self, response, gold): ...\n"
    )
    (folder / "recipe.yaml").write_text(written.replace("settings: {", f"{settings}, "))
    config = load(folder / "recipe.yaml")
    assert isinstance(config.task, OwnTask)
    read = config.task.settings
    assert (read["word"], read["much"], read["empty"]) == ("code", ("long " * 99).strip(), "")
    assert (read["place"], read["file"]) == (str(folder / "code"), str(folder / "words.txt"))
    # Read again where such a file lies in the current folder, it stays what it is.
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "code").write_text("")
    monkeypatch.chdir(folder / "elsewhere")
    again = type(config).model_validate(config.model_dump(mode="json"))
    assert isinstance(again.task, OwnTask)
    assert again.task.settings == read


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def __init__(self, **k): open('nowhere.txt')", "FileNotFoundError: "),
        ("def __init__(self, **k): raise SystemExit(3)", "SystemExit: 3 (tasks.py, line 3)"),
        ("def __init__(self, **k): self.absent", "AttributeError: "),
        ("subsets = 'all'", "its subsets are 'all'; a list of names is wanted"),
        ("def subsets(self): return ['easy']", "its subsets are <bound method"),
        ("subsets = (1, 2)", "its subsets are (1, 2)"),
        ("def verify(self, response): ...", "verify cannot be called with response, gold: too many pos"),
        ("async def verify(self, response, gold): ...", "verify is asynchronous; write def without async"),
    ],
)
def test_a_class_that_cannot_work_is_told_when_the_recipe_is_checked(
    folder: Path, body: str, says: str
) -> None:
    (folder / "tasks.py").write_text(
        "from rlad_core.tasks import Task\nclass Riddles(Task):\n"
        f"    {body}\n"
        + ("" if "__init__" in body else "    def __init__(self, **settings): ...\n")
        + ("" if "subsets" in body else "    subsets = ('easy', 'hard')\n")
        + "    def prompts(self, split, subset, count, seed): ...\n"
        + ("" if "verify" in body else "    def verify(self, response, gold): ...\n")
    )
    said = refusal(folder)
    assert says in said
    assert "task.settings (" in said


def test_a_fault_in_a_users_validator_is_told_by_its_line(folder: Path) -> None:
    (folder / "objective.py").write_text(
        OBJECTIVE + "\n    from pydantic import field_validator\n"
        "    @field_validator('scale')\n    @classmethod\n    def _known(cls, value): return {}['a']\n"
    )
    assert "KeyError: 'a' (objective.py, line " in refusal(folder)
