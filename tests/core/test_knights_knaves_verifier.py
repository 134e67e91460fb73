"""The verifier: one test per line of the table in its docstring, and any text at all."""

import itertools
import random
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlad_core.tasks.base import Verdict
from rlad_core.tasks.knights_knaves import perturbations
from rlad_core.tasks.knights_knaves.generator import generate
from rlad_core.tasks.knights_knaves.islanders import KNIGHTS
from rlad_core.tasks.knights_knaves.prompt import reply
from rlad_core.tasks.knights_knaves.puzzle import Puzzle, answer_lines
from rlad_core.tasks.knights_knaves.verifier import END_TOKENS, TAGS, verify


def puzzle_of(*names: str) -> Puzzle:
    """The first of these people is a knight, all others are knaves."""
    others = range(1, len(names))
    return Puzzle(
        names=names,
        statements=(("not", ("telling-truth", 1)), *(("lying", 0) for _ in others)),
        solution=(True, *(False for _ in others)),
        wording=tuple(0 for _ in names),
    )


PUZZLE = puzzle_of("Zoey", "Owen", "Liam")
RIGHT = "(1) Zoey is a knight\n(2) Owen is a knave\n(3) Liam is a knave"
GOOD = f"<think> because </think><answer> {RIGHT} </answer>"


def judge(answer: str, puzzle: Puzzle = PUZZLE) -> Verdict:
    return verify(reply("because", answer), puzzle)


def test_totals_are_those_of_logic_rl() -> None:
    assert verify(GOOD, PUZZLE) == Verdict(3.0, {"format": 1.0, "answer": 2.0}, True, "right")
    wrong = judge(
        RIGHT.replace("Owen is a knave", "Owen is a knight").replace("Zoey is a knight", "Zoey is a knave")
    )
    assert (wrong.reward, wrong.parts, wrong.correct) == (-0.5, {"format": 1.0, "answer": -1.5}, False)
    assert wrong.reason == "wrong answer: Zoey is a knight, not a knave; Owen is a knave, not a knight"
    unreadable = judge("no idea")
    assert (unreadable.reward, unreadable.parts) == (-1.0, {"format": 1.0, "answer": -2.0})
    formless = verify(RIGHT, PUZZLE)
    assert (formless.reward, formless.parts) == (-3.0, {"format": -1.0, "answer": -2.0})


@pytest.mark.parametrize(
    "response",
    [
        GOOD,
        f"\n {GOOD}\n\n",
        GOOD.replace("</think><answer>", "</think>\n\n<answer>\n"),
        GOOD.replace("> ", ">").replace(" <", "<"),
        GOOD.replace("because", "First.\nWhat if a < b > c? Zoey is a knave, is she?"),
        GOOD.replace(" because ", ""),
        GOOD.replace("because", " \n\t "),
        GOOD.replace("</think>", "</think> so"),
        GOOD.replace("</think>", "</think>\n\n**The answer is:**\n"),
        *(GOOD + end for end in END_TOKENS),
        GOOD + "\n<|im_end|>\n<|endoftext|>",
    ],
)
def test_forms_that_are_right(response: str) -> None:
    assert verify(response, PUZZLE).correct


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("", "<think> is missing"),
        (GOOD.replace("<think>", ""), "<think> is missing"),
        (GOOD.replace("</think>", ""), "</think> is missing"),
        (GOOD.replace("<answer>", ""), "<answer> is missing"),
        (GOOD.replace("</answer>", ""), "</answer> is missing"),
        (GOOD.replace("think>", "Think>"), "<think> is missing"),
        (GOOD.replace("<answer>", "< answer >"), "<answer> is missing"),
        ("<think> I was cut off in the middle of", "</think> is missing"),
        (GOOD + f"<answer> {RIGHT} </answer>", "<answer> occurs 2 times"),
        (GOOD + "</answer>", "</answer> occurs 2 times"),
        (GOOD.replace("because", "I must write <answer>"), "<answer> occurs 2 times"),
        ("<think>" + GOOD, "<think> occurs 2 times"),
        (
            f"<answer> {RIGHT} </answer><think> because </think>",
            "tags in the order <answer> </answer> <think> </think>",
        ),
        (f"<think> because <answer> {RIGHT} </answer> </think>", "tags in the order"),
        ("Sure! " + GOOD, "text before <think>: 'Sure!'"),
        (GOOD.replace("</think>", "</think> not so"), "text between </think> and <answer>: 'not so'"),
        (GOOD.replace("</think>", "</think> Zoey is a knight."), "text between </think> and <answer>: 'Zoey"),
        (GOOD.replace("</think>", "</think> So.\nThe answer:"), "text between </think> and <answer>: 'So."),
        ("<|im_end|>" + GOOD, "text before <think>: '<|im_end|>'"),
        (GOOD + "<|im_end|> Zoey", "text after </answer>: '<|im_end|> Zoey'"),
        (GOOD + " Hope this helps.", "text after </answer>: 'Hope this helps.'"),
        (GOOD + "\0", "text after </answer>: '\\x00'"),
    ],
)
def test_forms_that_are_wrong(response: str, reason: str) -> None:
    verdict = verify(response, PUZZLE)
    assert (verdict.reward, verdict.correct) == (-3.0, False)
    assert verdict.reason.startswith(f"form: {reason}")


@pytest.mark.parametrize("alter", [perturbations.other_roles, perturbations.KINDS["flip_role"]])
def test_an_answer_is_in_the_words_of_its_island(alter: Callable[[Puzzle, random.Random], Puzzle]) -> None:
    for seed in range(10):
        puzzle = alter(PUZZLE, random.Random(seed))
        assert judge(puzzle.solution_text, puzzle).correct
        words = puzzle.islanders
        assert judge(answer_lines(puzzle.names, [words.lying] * 3), puzzle).reward == -0.5
        assert "expected" in judge(answer_lines(puzzle.names, ["elf"] * 3), puzzle).reason
        # Those of another one are not understood.
        assert judge(RIGHT, puzzle).reward == (-0.5 if words == KNIGHTS.flipped else -1.0)


@pytest.mark.parametrize(
    "answer",
    [
        RIGHT,
        RIGHT.upper(),
        RIGHT.lower(),
        RIGHT.replace("(", "").replace(")", "."),
        RIGHT.replace("(", ""),
        RIGHT.replace("\n", " "),
        RIGHT.replace("\n", ".\r\n\n") + ".",
        RIGHT.replace(" is", "\tis  "),
        "Zoey is a knight, Owen is a knave, and Liam is a knave.",
        "Zoey is a knight and Owen is a knave and Liam is a knave",
        "Zoey is a knight; Owen is a knave; Liam is a knave;",
        "(3) Liam is a knave\n(1) Zoey is a knight\n(2) Owen is a knave",
        "(1) Liam is a knave\n(2) Zoey is a knight\n(3) Owen is a knave",
        "- Zoey is a knight\n- Owen is a knave\n- Liam is a knave",
        "* Zoey is a knight\n* Owen is a knave\n* Liam is a knave",
        "\u2022 Zoey is a knight\n\u2022 Owen is a knave\n\u2022 Liam is a knave",
        "- (1) Zoey is a knight\n- (2) Owen is a knave\n- (3) Liam is a knave",
        "1. **Zoey is a knight**\n2. **Owen is a knave**\n3. **Liam is a knave**",
        "**Zoey** is a **knight**, **Owen** is a **knave**, **Liam** is a **knave**",
        f"The answer is:\n{RIGHT}",
        f"The answer is: {RIGHT}",
        f"**The solution:**\n\n{RIGHT}",
        f"Therefore\n{RIGHT}",
        f"For Zoey, Owen and Liam the roles are:\n{RIGHT}",
        f"Here is who lies, based on our assumptions:\n{RIGHT}",
    ],
)
def test_answers_that_can_be_read(answer: str) -> None:
    assert judge(answer).correct, judge(answer).reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "Zoey, Owen, Liam left out"),
        ("(1) Zoey is a knight\n(3) Liam is a knave", "Owen left out"),
        (f"{RIGHT}\n(4) Owen is a knave", "Owen is named twice"),
        (f"{RIGHT}\n{RIGHT}", "Zoey is named twice"),
        (f"{RIGHT}\n(4) Owen is a knight", "Owen is called both knight and knave"),
        ("Zoey is a knight. Zoey is a knave. Owen is a knave.", "Zoey is called both knight and knave"),
        (RIGHT.replace("Liam", "William"), "William is not in the puzzle"),
        (f"{RIGHT}\n(4) Bob is a knight", "Bob is not in the puzzle"),
        (RIGHT.replace("Zoey is a", "Zoey is not a"), "it says what Zoey is not"),
        (RIGHT.replace("Owen is a knave", "Owen is not a knight"), "it says what Owen is not"),
        (RIGHT.replace("Zoey is a knight", "Zoey is a knight or a knave"), "expected 'NAME is a knight'"),
        (RIGHT.replace("Zoey is a knight", "Zoey is a knight?"), "unexpected text after"),
        (RIGHT.replace("Zoey is a knight", "Zoey is a knights"), "expected 'NAME is a knight'"),
        (RIGHT.replace("is a knight", "is a truth-teller"), "expected 'NAME is a knight'"),
        (RIGHT.replace("is a", "is an"), "expected 'NAME is a knight'"),
        (RIGHT.replace("is a", "is  probably a"), "expected 'NAME is a knight'"),
        (RIGHT.replace("Zoey is", "Zo\0ey is"), "expected 'NAME is a knight'"),
        (f"So who is a knight and who is a knave? {RIGHT}", "expected 'NAME is a knight'"),
        (f"It is not true that:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"Either:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"All of the following are lies:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"The reverse of this holds:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"Nobody believes that:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"I doubt that\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"This can’t be:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"It is impossible that:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"This leads to a contradiction:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"One would mistakenly say:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"What fails:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"The negation of:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"Falsehoods:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"Flip all of these:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"One would wrongly say:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"The knights and knaves are:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"First line\nsecond line:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"{'So ' * 40}:\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"Bob is a saint\n{RIGHT}", "expected 'NAME is a knight'"),
        (f"{RIGHT}\nThat is all.", "expected 'NAME is a knight'"),
        (f"{RIGHT} (4)", "expected 'NAME is a knight'"),
        ("If Zoey is a knight then Owen is a knave. Liam is a knave.", "expected 'NAME is a knight'"),
        ("Zoey is a knight if and only if Owen is a knave", "expected 'NAME is a knight'"),
        ("knight, knave, knave", "expected 'NAME is a knight'"),
        ("(1) Zoey is a knight\n(2) ...", "expected 'NAME is a knight'"),
    ],
)
def test_answers_that_cannot_be_read(answer: str, reason: str) -> None:
    verdict = judge(answer)
    assert (verdict.reward, verdict.correct) == (-1.0, False)
    assert verdict.reason.startswith(f"unreadable answer: {reason}")


@pytest.mark.parametrize(
    "names",
    [
        ("Liam", "William"),
        ("Isabella", "Ella"),
        ("Jack", "Jackson"),
        ("Jackson", "Jack"),
        ("Zephyr", "Zephyrus", "Zephyrine"),
        ("Zephyrine", "Zephyr", "Zephyrus"),
        ("Ann", "Ann Mary", "Mary Ann"),
    ],
)
def test_names_that_contain_one_another(names: tuple[str, ...]) -> None:
    puzzle = puzzle_of(*names)
    for order in itertools.permutations(range(len(names))):
        for roles in itertools.product(("knight", "knave"), repeat=len(names)):
            answer = ", ".join(f"{names[person]} is a {roles[person]}" for person in order)
            verdict = judge(answer, puzzle)
            assert verdict.reward == (3.0 if roles == puzzle.roles else -0.5)
    # Naming only one of them does not name the other.
    for name in names:
        left_out = [other for other in names if other != name]
        assert judge(f"{name} is a knight", puzzle).reason.endswith(f"{', '.join(left_out)} left out")


def test_names_with_letters_beyond_ascii_and_signs() -> None:
    puzzle = puzzle_of("Zoë", "O'Neil", "Jean-Luc")
    assert judge("ZOË is a knight, O'Neil is a knave, jean-luc is a knave", puzzle).correct


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 8), st.integers(0, 10**6), st.data())
def test_only_the_solution_is_accepted(people: int, seed: int, data: st.DataObject) -> None:
    (puzzle,) = generate(people, "train", seed, 1)
    assert judge(puzzle.solution_text, puzzle).correct
    guess = data.draw(st.tuples(*(st.booleans() for _ in range(people))))
    verdict = judge(answer_lines(puzzle.names, [KNIGHTS.role(truthful) for truthful in guess]), puzzle)
    assert verdict.correct == (guess == puzzle.solution)
    for name, said, true in zip(puzzle.names, guess, puzzle.solution, strict=True):
        assert (f"{name} is a" in verdict.reason) == (said != true)


ANY_WORDS = st.lists(
    st.sampled_from(
        [*TAGS, "Zoey", "Owen", "Liam", " is a ", "not ", "knight", "knave", "(1)", "\n", " ", ",", "and"]
    )
    | st.text(max_size=5),
    max_size=40,
).map("".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(), ANY_WORDS, ANY_WORDS.map(lambda words: reply("a", words))))
@example("\0" * 1000)
@example(reply("a", "Zoey \u017fis a \u212anight Owen is a \u212anave Liam \u0131s a knave"))
@example(reply("a", "\ud800 is a knight"))
def test_any_text_gets_a_verdict(response: str) -> None:
    verdict = verify(response, PUZZLE)
    assert verdict.reward == sum(verdict.parts.values())
    assert verdict.reward in (3.0, -0.5, -1.0, -3.0)
    assert verdict.correct == (verdict.reward == 3.0) == (verdict.reason == "right")
    assert len(verdict.reason) < 500
    verdict.reason.encode()  # a reason is stored as UTF-8


@pytest.mark.parametrize(
    "unit",
    [
        "\0",
        " ",
        "(",
        "9",
        "(1) ",
        "<think>",
        "<answer>",
        "Zoey ",
        "Zoey is a ",
        "Zoey is a knight ",
        "and ",
        "- ",
        ":",
        "\n",
        "</s>",
        "<|im_end|> ",
        "\u00e9",
    ],
)
def test_the_time_is_linear_in_the_length(unit: str) -> None:
    """A million characters in well under a second, wherever they stand; quadratic would be hours."""
    bulk = unit * (1_000_000 // len(unit))
    started = time.perf_counter()
    verdicts = [
        verify(response, PUZZLE)
        for response in (bulk, reply(bulk, RIGHT), reply("a", bulk), reply("a", RIGHT + bulk), GOOD + bulk)
    ]
    assert time.perf_counter() - started < 5
    assert all(len(verdict.reason) < 500 for verdict in verdicts)
