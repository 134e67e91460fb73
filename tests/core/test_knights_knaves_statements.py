"""Statements: truth against a plain truth table, the solver against trying everybody's role by hand."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlad_core.tasks.knights_knaves.names import COMMON, UNCOMMON
from rlad_core.tasks.knights_knaves.puzzle import TEMPLATES, Puzzle, statement_text
from rlad_core.tasks.knights_knaves.statements import (
    BINARY_OPERATORS,
    LEAVES,
    Statement,
    check_statement,
    evaluate,
    sample_statement,
    solve,
)


@st.composite
def statement_lists(draw: st.DrawFn) -> tuple[Statement, ...]:
    """Statements of any depth, one per person, for 2 to 5 people."""
    people = draw(st.integers(2, 5))
    leaves = st.tuples(st.sampled_from(LEAVES), st.integers(0, people - 1))
    trees = st.recursive(
        leaves,
        lambda parts: st.one_of(
            st.tuples(st.just("not"), parts),
            st.tuples(st.sampled_from(BINARY_OPERATORS), parts, parts),
        ),
        max_leaves=5,
    )
    return tuple(draw(st.lists(trees, min_size=people, max_size=people)))


@pytest.mark.parametrize(
    ("operator", "truth"),
    [  # for (left, right) = TT, TF, FT, FF
        ("and", [True, False, False, False]),
        ("or", [True, True, True, False]),
        ("->", [True, False, True, True]),
        ("<=>", [True, False, False, True]),
    ],
)
def test_operators_have_their_truth_tables(operator: str, truth: list[bool]) -> None:
    statement = (operator, ("telling-truth", 0), ("telling-truth", 1))
    rows = itertools.product((True, False), repeat=2)
    assert [evaluate(statement, row) for row in rows] == truth


def test_leaves_and_not() -> None:
    assert evaluate(("telling-truth", 1), (False, True))
    assert evaluate(("lying", 0), (False, True))
    assert not evaluate(("not", ("lying", 0)), (False, True))


@given(statement_lists())
def test_solver_agrees_with_trying_every_assignment(statements: tuple[Statement, ...]) -> None:
    tried = [
        assignment
        for assignment in itertools.product((True, False), repeat=len(statements))
        if all(evaluate(said, assignment) == role for said, role in zip(statements, assignment, strict=True))
    ]
    assert sorted(solve(statements)) == sorted(tried)


def test_the_liar_has_no_solution() -> None:
    assert solve((("lying", 0), ("telling-truth", 1))) == []


@pytest.mark.parametrize("people", [2, 3, 8])
def test_samples_follow_the_published_grammar(people: int) -> None:
    rng = random.Random(0)
    kinds: dict[str, int] = {}
    for _ in range(6000):
        speaker = rng.randrange(people)
        statement = sample_statement(speaker, people, rng)
        assert check_statement(statement, people) == statement
        kind, *parts = statement
        kinds["leaf" if kind in LEAVES else kind] = kinds.get("leaf" if kind in LEAVES else kind, 0) + 1
        leaves = [statement] if kind in LEAVES else parts
        assert all(leaf[0] in LEAVES for leaf in leaves)
        assert ("lying", speaker) not in leaves
        assert len(set(leaves)) == len(leaves)
    # A leaf and each of the five operators are equally likely: 1000 +- 5 standard deviations of 29.
    assert set(kinds) == {"leaf", "not", *BINARY_OPERATORS}
    assert all(abs(count - 1000) < 145 for count in kinds.values())


@pytest.mark.parametrize(
    "statement",
    [
        None,
        (),
        "lying",
        ("lying",),
        ("lying", 2),
        ("lying", -1),
        ("lying", True),
        ("lying", "0"),
        ("shouting", 0),
        ("not", ("lying", 0), ("lying", 1)),
        ("and", ("lying", 0)),
        ("and", ("lying", 0), 1),
        (("lying", 0), ("lying", 1)),
    ],
)
def test_what_is_no_statement_is_refused(statement: object) -> None:
    with pytest.raises(ValueError, match=r"statement|speaks of|unknown"):
        check_statement(statement, people=2)


def test_lists_become_tuples() -> None:
    assert check_statement(["not", ["lying", 1]], 2) == ("not", ("lying", 1))


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (("telling-truth", 0), "Zoey is a knight"),
        (("lying", 1), "Owen is a knave"),
        (("not", ("lying", 1)), "Owen is not a knave"),
        (("and", ("lying", 0), ("lying", 1)), "Zoey is a knave and Owen is a knave"),
        (("or", ("lying", 0), ("telling-truth", 1)), "Zoey is a knave or Owen is a knight"),
        (("->", ("lying", 0), ("lying", 1)), "If Zoey is a knave then Owen is a knave"),
        (("<=>", ("lying", 0), ("lying", 1)), "Zoey is a knave if and only if Owen is a knave"),
    ],
)
def test_statements_in_words(statement: Statement, text: str) -> None:
    assert statement_text(statement, ("Zoey", "Owen")) == text


def test_an_operator_under_an_operator_has_no_words() -> None:
    with pytest.raises(ValueError, match="only leaves"):
        statement_text(("not", ("not", ("lying", 0))), ("Zoey", "Owen"))


def test_text_of_a_puzzle() -> None:
    puzzle = Puzzle(
        names=("Zoey", "Owen"),
        statements=(("not", ("telling-truth", 1)), ("and", ("lying", 0), ("telling-truth", 1))),
        solution=(True, False),
        wording=(TEMPLATES.index('"{says}," {name} claimed.'), TEMPLATES.index('{name} said, "{says}."')),
    )
    assert puzzle.text == (
        "A very special island is inhabited only by knights and knaves. Knights always tell the truth, and "
        "knaves always lie. You meet 2 inhabitants: Zoey, and Owen. "
        '"Owen is not a knight," Zoey claimed. Owen said, "Zoey is a knave and Owen is a knight." '
        "So who is a knight and who is a knave?"
    )
    assert puzzle.solution_text == "(1) Zoey is a knight\n(2) Owen is a knave"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("Zoey", "zoey")}, "distinct name"),
        ({"names": ("Zoey", "")}, "distinct name"),
        ({"names": ("Zoey", "Mary  Ann")}, "distinct name"),
        ({"names": ("Zoey",)}, "per person|distinct name"),
        ({"solution": (True,)}, "distinct name"),
        ({"solution": (False, False)}, "does not fit statement"),
        ({"wording": (0, 99)}, "wording 99"),
        ({"order": (0, 0)}, "order"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(change: dict[str, object], message: str) -> None:
    parts = {
        "names": ("Zoey", "Owen"),
        "statements": (("not", ("telling-truth", 1)), ("and", ("lying", 0), ("telling-truth", 1))),
        "solution": (True, False),
        "wording": (0, 1),
    }
    Puzzle(**parts)
    with pytest.raises(ValueError, match=message):
        Puzzle(**{**parts, **change})


def test_name_pools_are_apart_and_hold_names_within_names() -> None:
    assert len(set(COMMON)) == len(COMMON) == 51
    assert len(set(UNCOMMON)) == len(UNCOMMON)
    assert not {name.lower() for name in COMMON} & {name.lower() for name in UNCOMMON}
    assert {"Ella", "Isabella", "Jack", "Jackson", "Liam", "William"} <= set(COMMON)
    assert {"Zephyr", "Zephyrus", "Zephyrine"} <= set(UNCOMMON)
