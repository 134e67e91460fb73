"""Generated puzzles: one solution each, the same for the same arguments, never in two splits."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlad_core.tasks.knights_knaves import perturbations
from rlad_core.tasks.knights_knaves.generator import SPLITS, draw, generate, split_key, split_of
from rlad_core.tasks.knights_knaves.names import COMMON, UNCOMMON
from rlad_core.tasks.knights_knaves.puzzle import Puzzle
from rlad_core.tasks.knights_knaves.statements import evaluate, solve

sizes = st.integers(2, 8)
seeds = st.integers(0, 2**40)


@settings(max_examples=40, deadline=None)
@given(sizes, st.sampled_from(SPLITS), seeds, st.sampled_from(["common", "uncommon"]))
def test_any_generated_puzzle_has_one_solution(people: int, split: str, seed: int, name_pool: str) -> None:
    (puzzle,) = generate(people, split, seed, 1, name_pool)
    fitting = [
        assignment
        for assignment in itertools.product((True, False), repeat=people)
        if all(evaluate(puzzle.statements[i], assignment) == assignment[i] for i in range(people))
    ]
    assert fitting == [puzzle.solution]
    assert set(puzzle.names) <= set({"common": COMMON, "uncommon": UNCOMMON}[name_pool])
    assert split_of(puzzle.names, puzzle.statements) == split
    assert Puzzle.from_gold(puzzle.to_gold()) == puzzle


@pytest.mark.parametrize("people", [2, 3, 5])
def test_the_same_arguments_give_the_same_puzzles_and_a_longer_request_begins_with_them(people: int) -> None:
    short, long = generate(people, "train", 7, 20), generate(people, "train", 7, 50)
    assert long[:20] == short == generate(people, "train", 7, 20)
    assert len({puzzle.content_id for puzzle in long}) == len({puzzle.text for puzzle in long}) == 50


def test_another_seed_split_or_pool_gives_other_puzzles() -> None:
    base = {puzzle.content_id for puzzle in generate(4, "train", 0, 50)}
    for other in (
        generate(4, "train", 1, 50),
        generate(4, "test", 0, 50),
        generate(4, "train", 0, 50, "uncommon"),
    ):
        assert not base & {puzzle.content_id for puzzle in other}


@pytest.mark.parametrize("people", [2, 3, 4])
def test_splits_share_no_content_whatever_the_seed(people: int) -> None:
    keys = {
        split: {
            split_key(puzzle.names, puzzle.statements)
            for seed in range(3)
            for puzzle in generate(people, split, seed, 40)
        }
        for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert not keys[one] & keys[other]


@pytest.mark.parametrize("people", [3, 5])
def test_most_puzzles_are_for_training_and_a_tenth_each_is_held_out(people: int) -> None:
    rng = random.Random(0)
    puzzles = [puzzle for puzzle in (draw(people, COMMON, rng) for _ in range(3000)) if puzzle]
    shares = {
        split: sum(split_of(puzzle.names, puzzle.statements) == split for puzzle in puzzles) / len(puzzles)
        for split in SPLITS
    }
    assert shares["train"] == pytest.approx(0.8, abs=0.06)
    assert shares["test"] == pytest.approx(0.1, abs=0.04)
    assert shares["validation"] == pytest.approx(0.1, abs=0.04)


def permuted(puzzle: Puzzle, order: list[int]) -> Puzzle:
    """The puzzle with its people introduced in another order; `order[k]` is who comes k-th."""
    new_index = {old: new for new, old in enumerate(order)}

    def renumbered(statement: tuple) -> tuple:
        if isinstance(statement[1], int):
            return (statement[0], new_index[statement[1]])
        return (statement[0], *map(renumbered, statement[1:]))

    return Puzzle(
        names=tuple(puzzle.names[old] for old in order),
        statements=tuple(renumbered(puzzle.statements[old]) for old in order),
        solution=tuple(puzzle.solution[old] for old in order),
        wording=puzzle.wording,
    )


def mirrored(statement: tuple) -> tuple:
    """The statement with the sides of its symmetric operator exchanged."""
    if statement[0] in ("and", "or", "<=>"):
        return (statement[0], statement[2], statement[1])
    return statement


@settings(max_examples=60, deadline=None)
@given(sizes, seeds, st.randoms(use_true_random=False))
def test_a_puzzle_told_otherwise_stays_in_its_split(people: int, seed: int, rng: random.Random) -> None:
    (puzzle,) = generate(people, "train", seed, 1)
    key = split_key(puzzle.names, puzzle.statements)
    moved = permuted(puzzle, rng.sample(range(people), people))
    assert solve(moved.statements) == [moved.solution]
    assert split_key(moved.names, moved.statements) == key
    assert split_key(puzzle.names, [mirrored(statement) for statement in puzzle.statements]) == key
    renamed = perturbations.other_names(puzzle, rng)
    assert (split_key(renamed.names, renamed.statements) == key) == (people > 2)


def test_the_key_tells_puzzles_apart() -> None:
    puzzles = generate(6, "train", 0, 300)
    assert len({split_key(puzzle.names, puzzle.statements) for puzzle in puzzles}) == 300
    # An implication is no symmetric operator.
    forth, back = ("->", ("telling-truth", 0), ("lying", 1)), ("->", ("lying", 1), ("telling-truth", 0))
    rest = (("telling-truth", 0), ("not", ("lying", 1)))
    assert split_key("ABC", (forth, *rest)) != split_key("ABC", (back, *rest))


def test_split_keys_and_draws_do_not_change_between_versions() -> None:
    """Models that ship with the project were trained on the training split as it is now."""
    first, second = generate(3, "test", 0, 2)
    assert split_key(first.names, first.statements).hex() == "d90ecf19544cb7cf13a742b1e4cf95d6"
    assert split_key(second.names, second.statements).hex() == "de27f7b528d238fae69c5bbed7a82e04"
    (of_two,) = generate(2, "test", 0, 1)
    assert split_key(of_two.names, of_two.statements).hex() == "7f37e5b3b06634a40c19c2d3aba0b214"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, "train", 0, 1), "2 to 8"),
        ((9, "train", 0, 1), "2 to 8"),
        ((3, "dev", 0, 1), "train, validation, test"),
        ((3, "train", 0, -1), "count"),
        ((3, "train", 0, 1, "klingon"), "common, uncommon"),
    ],
)
def test_what_there_is_not_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(*arguments)


def test_more_puzzles_than_there_are_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "rlad_core.tasks.knights_knaves.names.POOLS", {"common": ("Zoey", "Owen"), "uncommon": UNCOMMON}
    )
    monkeypatch.setattr("rlad_core.tasks.knights_knaves.generator._DRAWS_PER_PUZZLE", 1000)
    with pytest.raises(ValueError, match=r"no new puzzle in \d+ draws after \d+ of 5000"):
        generate(2, "validation", 0, 5000)
