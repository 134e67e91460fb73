"""The task as the rest of the system sees it: found by name, prompts, gold, demonstrations."""

import json
from pathlib import Path
from typing import get_args

import pytest

from rlad_core.tasks import Asked, section_of
from rlad_core.tasks.knights_knaves import perturbations, verifier
from rlad_core.tasks.knights_knaves.generator import generate
from rlad_core.tasks.knights_knaves.islanders import KNIGHTS
from rlad_core.tasks.knights_knaves.prompt import FORMAT_INSTRUCTION, reply
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.settings import Perturbation, Settings
from rlad_core.tasks.knights_knaves.task import KnightsKnaves, prompt_for
from rlad_core.tasks.rows import FileSource

PUZZLES = KnightsKnaves()


def test_subsets_are_the_numbers_of_people() -> None:
    assert PUZZLES.subsets == tuple(f"{people}_people" for people in range(2, 9))


@pytest.mark.parametrize("subset", PUZZLES.subsets)
def test_prompts_hold_what_it_takes_to_ask_and_to_judge(subset: str) -> None:
    prompts = PUZZLES.prompts("validation", subset, count=5, seed=3)
    assert prompts == PUZZLES.prompts("validation", subset, count=5, seed=3)
    assert len({prompt.prompt_id for prompt in prompts}) == 5
    for prompt in prompts:
        puzzle = Puzzle.from_gold(prompt.gold)
        assert (prompt.task, prompt.subset) == ("knights_knaves", subset)
        assert f"{len(puzzle.names)}_people" == subset
        assert prompt.messages == [
            {"role": "system", "content": FORMAT_INSTRUCTION},
            {"role": "user", "content": puzzle.text},
        ]
        verdict = PUZZLES.verify(PUZZLES.demonstration(prompt.gold), prompt.gold)
        assert (verdict.reward, verdict.correct, verdict.reason) == (3.0, True, "right")


def test_prompt_ids_follow_the_text() -> None:
    puzzle = generate(3, "train", 0, 1)[0]
    same, other = Puzzle.from_gold(puzzle.to_gold()), generate(3, "train", 1, 1)[0]
    assert prompt_for(puzzle).prompt_id == prompt_for(same).prompt_id
    assert prompt_for(puzzle).prompt_id != prompt_for(other).prompt_id


def test_a_task_or_subset_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"'sudoku' is unknown; write knights_knaves, math"):
        section_of("sudoku", Asked())
    with pytest.raises(ValueError, match="2_people"):
        PUZZLES.prompts("train", "9_people", 1, 0)


def test_the_format_instruction_shows_a_reply_of_the_form_it_asks_for() -> None:
    example = FORMAT_INSTRUCTION[FORMAT_INSTRUCTION.index("<think>") :]
    assert verifier.read_form(example, KNIGHTS).split() == ["(1)", "Zoey", "is", "a", "knight", "(2)", "..."]
    assert reply("a", "b") == "<think> a </think><answer> b </answer>"


@pytest.mark.parametrize(
    "change",
    [
        {"names": None},
        {"names": [1, 2, 3]},
        {"solution": ["true", "true", "true"]},
        {"solution": [1, 0, 1]},
        {"statements": [["lying", 9]] * 3},
        {"wording": [0.0, 1.0, 2.0]},
        {"islanders": "no"},
        {"islanders": ["knight"]},
        {"islanders": ["knight", "knight"]},
        {"order": [0, 1]},
        {"extra": 1},
    ],
)
def test_gold_that_is_damaged_is_an_error_not_a_verdict(change: dict[str, object]) -> None:
    gold = json.loads(generate(3, "train", 0, 1)[0].to_gold())
    with pytest.raises(ValueError):
        PUZZLES.verify("<think> a </think><answer> b </answer>", json.dumps({**gold, **change}))


@pytest.mark.parametrize("gold", ["", "null", "[]", "{}", "not json"])
def test_gold_that_is_no_puzzle_is_an_error(gold: str) -> None:
    with pytest.raises(ValueError):
        PUZZLES.verify("", gold)


def write_rows(path: Path, puzzles: list[Puzzle]) -> None:
    rows = [
        {"quiz": puzzle.text, "names": puzzle.names, "statements": str(puzzle.statements)}
        for puzzle in puzzles
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_recipe_reads_published_files(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", generate(3, "train", 0, 20))
    write_rows(tmp_path / "test.jsonl", perturbations.generate("random_pair", 4, "test", 0, 10))
    train = {"files": [{"path": str(tmp_path / "train.jsonl"), "count": 5}], "seed": 1}
    held_out = {"files": [{"path": str(tmp_path / "test.jsonl"), "name": "saints"}]}
    section = Settings.model_validate({"train": train, "evaluation": held_out})
    [trained], [measured] = section.train_parts, section.evaluation_parts
    assert (trained.split, trained.subset, trained.count) == ("train", "train", 5)
    assert (measured.split, measured.subset, measured.count) == ("evaluation", "saints", None)
    task = section.task()
    assert task.subsets[-2:] == ("train", "saints")
    prompts = task.prompts("train", "train", 5, seed=1)
    assert prompts == task.prompts("train", "train", 5, seed=1)
    assert len({prompt.prompt_id for prompt in prompts}) == 5
    assert len(task.prompts("evaluation", "saints", None, seed=0)) == 10
    for prompt in task.prompts("evaluation", "saints", None, seed=0):
        # A small model is not told of knights where there are none.
        assert "knight" not in prompt.messages[0]["content"]
        assert prompt.subset == "saints"
        assert task.verify(task.demonstration(prompt.gold), prompt.gold).correct
    with pytest.raises(ValueError, match="has 20 different prompts, fewer than 21"):
        task.prompts("train", "train", 21, seed=0)


def test_a_file_may_hold_a_puzzle_twice(tmp_path: Path) -> None:
    [puzzle] = generate(3, "train", 0, 1)
    write_rows(tmp_path / "train.jsonl", [puzzle, puzzle])
    task = KnightsKnaves(files={("train", "twice"): FileSource(str(tmp_path / "train.jsonl"))})
    assert len(task.prompts("train", "twice", None, seed=0)) == 1


def test_altered_puzzles_are_evaluated_beside_the_others() -> None:
    evaluation = {"people": [3, 4], "count": 4, "perturbations": ["flip_role", "uncommon_name"]}
    section = Settings.model_validate({"evaluation": evaluation})
    asked = [(part.split, part.subset, part.count) for part in section.evaluation_parts]
    sizes = [f"{size}_people{kind}" for size in (3, 4) for kind in ("", "_flip_role", "_uncommon_name")]
    assert asked == [("test", size, 4) for size in sizes]
    task = section.task()
    found = {part.subset: task.prompts("test", part.subset, 4, 0) for part in section.evaluation_parts}
    assert all(len(prompts) == 4 for prompts in found.values())
    assert {prompt.subset for prompt in found["3_people_flip_role"]} == {"3_people_flip_role"}
    assert "only by knaves and knights" in found["3_people_flip_role"][0].messages[1]["content"]
    assert get_args(Perturbation) == tuple(perturbations.KINDS)


@pytest.mark.parametrize(
    ("asked", "evaluation"),
    [
        (Asked(), {"people": [2, 3], "count": 300, "split": "test"}),
        (Asked(people=[4], count=5, split="validation"), {"people": [4], "count": 5, "split": "validation"}),
        (Asked(files=["a.jsonl"]), {"files": [{"path": "a.jsonl", "count": None}]}),
    ],
)
def test_what_a_person_may_ask(asked: Asked, evaluation: dict[str, object]) -> None:
    assert section_of("knights_knaves", asked) == {"name": "knights_knaves", "evaluation": evaluation}
    with pytest.raises(ValueError, match="people: task knights_knaves with files has no use for it"):
        section_of("knights_knaves", Asked(files=["a.jsonl"], people=[2]))
