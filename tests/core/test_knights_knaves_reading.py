"""A puzzle's text is read back as the puzzle it was written from."""

import random
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.tasks.knights_knaves import generator, perturbations
from rlad_core.tasks.knights_knaves.prompt import FORMAT_INSTRUCTION, reply
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.reading import read
from rlad_core.tasks.knights_knaves.task import KnightsKnaves

PUZZLE = Puzzle(
    names=("Zoey", "Ella"),
    statements=(("telling-truth", 1), ("or", ("lying", 0), ("telling-truth", 1))),
    solution=(True, True),
    wording=(1, 2),
)


@settings(max_examples=200, deadline=None)
@given(
    people=st.integers(generator.MIN_PEOPLE, generator.MAX_PEOPLE),
    split=st.sampled_from(generator.SPLITS),
    seed=st.integers(0, 10**6),
    pool=st.sampled_from(["common", "uncommon"]),
    kinds=st.lists(st.sampled_from(list(perturbations.KINDS)), max_size=4),
)
def test_what_was_written_is_read(people: int, split: str, seed: int, pool: str, kinds: list[str]) -> None:
    """Any puzzle, altered in any ways one after the other."""
    [puzzle] = generator.generate(people, split, seed, 1, pool)
    rng = random.Random(seed)
    for kind in kinds:
        puzzle = perturbations.KINDS[kind](puzzle, rng) or puzzle
    assert read(puzzle.text) == puzzle
    assert Puzzle.from_gold(puzzle.to_gold()) == puzzle
    around = f"<|im_start|>user\n{puzzle.text}\n<|im_end|>\n<|im_start|>assistant\n"
    assert read(FORMAT_INSTRUCTION + around) == puzzle
    task = KnightsKnaves()
    assert task.gold_of(puzzle.text) == puzzle.to_gold()
    assert task.verify(reply("", puzzle.solution_text), puzzle.to_gold()).correct
    assert task.verify(task.demonstration(puzzle.to_gold()), puzzle.to_gold()).correct


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no puzzle in the prompt: one goes from 'A very special island"),
        ("What is 2 + 2?", "no puzzle in the prompt"),
        (PUZZLE.text[: -len("a knave?")], "no puzzle in the prompt"),
        (PUZZLE.text + " " + PUZZLE.text, "not in the published words"),
        (PUZZLE.text.replace("You meet 2", "You meet 3"), "not in the published words, which are: 'A very"),
        (PUZZLE.text.replace("and Ella.", "and Zoey."), "with a name of their own each"),
        (
            PUZZLE.text.replace("Ella is a knight.", "Ella is a saint.", 1),
            "saint is neither of the words for islanders that the puzzle introduces",
        ),
        (PUZZLE.text.replace("Knights always", "Saints always"), "not in the published words"),
        (PUZZLE.text.replace("knights and knaves", "knights and knights"), "no two words for islanders"),
        (PUZZLE.text.replace("Zoey said that", "Zoey whispered that"), "words at ' Zoey whispered that Ella"),
        (PUZZLE.text.replace("Ella told you", "Zoey told you"), "Zoey makes two statements"),
        (
            PUZZLE.text.replace("Ella is a knight.", "Luke is a knight.", 1),
            "Luke is none of the people that the puzzle introduces: Zoey, Ella",
        ),
        (PUZZLE.text.replace("Zoey is a knave or", "If Zoey is a knave or"), "not in the published words"),
        (PUZZLE.text.replace("Zoey is a knave or", "Zoey is not a knight or"), "only leaves can stand there"),
        (PUZZLE.text.replace("a knave or Ella is a knight", "a knight"), "leave 2 assignments, not one"),
        (PUZZLE.text.replace(": Zoey,", ": Zoey, " + " ".join(f"N{i}," for i in range(30))), "32 people; a"),
        (PUZZLE.text.replace(": Zoey,", ": Zoey, " + "N, " * 70), "a knave?', with 12 people at most"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, says: str) -> None:
    with pytest.raises(ValueError) as refused:
        read(text)
    assert says in str(refused.value)


def test_names_are_not_read_by_the_million() -> None:
    text = PUZZLE.text.replace(": Zoey,", ": Zoey," + " Ella," * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="no puzzle in the prompt"):
            read(text)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**16


def test_nested_names_are_told_apart() -> None:
    puzzle = replace(PUZZLE, names=("Ella", "Isabella"))
    assert read(puzzle.text) == puzzle
    puzzle = replace(PUZZLE, names=("Jackson", "Jack"))
    assert read(puzzle.text) == puzzle
