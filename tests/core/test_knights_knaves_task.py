"""The task as the rest of the system sees it: found by name, prompts, gold, demonstrations."""

import json

import pytest

from rlad_core.tasks import Asked, section_of
from rlad_core.tasks.knights_knaves import verifier
from rlad_core.tasks.knights_knaves.generator import generate
from rlad_core.tasks.knights_knaves.prompt import FORMAT_INSTRUCTION, reply
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.task import KnightsKnaves, prompt_for

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
    assert verifier.read_form(example).split() == ["(1)", "Zoey", "is", "a", "knight", "(2)", "..."]
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
        {"roles_flipped": "no"},
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
