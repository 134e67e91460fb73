"""Judges a reply to a puzzle: a strict reader of its form and its answer, and the reward of Logic-RL.

The reward (arXiv 2502.14768, section 2.2) has two parts. The answer is only read when the form is right:

    form     answer                            format  answer  total
    wrong    not read                            -1      -2     -3
    right    cannot be read as an assignment     +1      -2     -1
    right    wrong                               +1      -1.5   -0.5
    right    right for every person              +1      +2     +3     the only one that counts as correct

Form: `<think> ... </think><answer> ... </answer>`, each tag exactly once and in this order.

    text before <think> or after </answer>        wrong form
    text between </think> and <answer>            wrong form, whitespace is allowed
    a tag twice, several answer blocks            wrong form, also if the reasoning quotes a tag
    a tag in other letters (<Think>)              wrong form: that tag is missing
    empty thinking, only whitespace               wrong form
    no </answer>, as when cut off at the limit    wrong form
    a prompt that ends with <think>               ``think_opened=True``: the reply must not open it again

Answer: for each person once "NAME is a knight" or "NAME is a knave", and nothing else. Whole words are
compared, so names that contain one another (Ella, Isabella) cannot be taken for each other.

    numbers such as (1), 1. or 1)                 read over, whatever they are: the name says who is meant
    another order of the people                   read
    another case (zoey is a KNIGHT)               read
    one line, with or without . , ; "and"         read; the published `solution_text` has this form
    a person left out                             unreadable, an empty answer likewise
    a person named twice, with one role or both   unreadable
    somebody who is not in the puzzle             unreadable
    "is not a knight"                             unreadable, even though it leaves only one role
    other words, the question, Markdown           unreadable
    role words of another island (truth-teller)   unreadable
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rlad_core.tasks.base import Verdict
from rlad_core.tasks.knights_knaves.puzzle import Puzzle

TAGS = ("<think>", "</think>", "<answer>", "</answer>")

FORMAT_RIGHT, FORMAT_WRONG = 1.0, -1.0
ANSWER_RIGHT, ANSWER_WRONG, ANSWER_UNREADABLE = 2.0, -1.5, -2.0

# The answer is matched after its whitespace has become single blanks, so no pattern repeats without bounds.
_LABEL = re.compile(r"(?:\(\d{1,2}\)|\d{1,2}[.)]) ?")
_ROLE = re.compile(r" is a (knight|knave)(?!\w)", re.IGNORECASE)
_BETWEEN = re.compile(r" ?[.,;]?(?: and(?= ))?(?: |$)", re.IGNORECASE)
_ANYBODY = re.compile(r"(\w{1,40}) is (a|not a) (?:knight|knave)(?!\w)", re.IGNORECASE)


def verify(response: str, puzzle: Puzzle, think_opened: bool = False) -> Verdict:
    """Judge a reply. Any text is an input like any other; the time is linear in its length.

    Args:
        response: what the model generated, special tokens left out.
        think_opened: whether the prompt already ended with `<think>`.
    """
    try:
        answer = read_form(f"<think>{response}" if think_opened else response)
    except _FormatFault as fault:
        return _verdict(FORMAT_WRONG, ANSWER_UNREADABLE, f"form: {fault}")
    try:
        roles = read_answer(answer, puzzle.names)
    except _AnswerFault as fault:
        return _verdict(FORMAT_RIGHT, ANSWER_UNREADABLE, f"unreadable answer: {fault}")
    wrong = [
        f"{name} is a {true}, not a {said}"
        for name, true, said in zip(puzzle.names, puzzle.roles, roles, strict=True)
        if said != true
    ]
    if wrong:
        return _verdict(FORMAT_RIGHT, ANSWER_WRONG, f"wrong answer: {'; '.join(wrong)}")
    return _verdict(FORMAT_RIGHT, ANSWER_RIGHT, "right")


def _verdict(form: float, answer: float, reason: str) -> Verdict:
    return Verdict(
        reward=form + answer,
        parts={"format": form, "answer": answer},
        correct=answer == ANSWER_RIGHT,
        reason=reason,
    )


class _FormatFault(Exception):
    """The reply does not have the form; the message says what is wrong with it."""


class _AnswerFault(Exception):
    """The answer is no assignment; the message says why."""


def read_form(response: str) -> str:
    """What stands between `<answer>` and `</answer>` of a reply in the right form."""
    for tag in TAGS:
        count = response.count(tag)
        if count != 1:
            raise _FormatFault(f"{tag} is missing" if not count else f"{tag} occurs {count} times")
    positions = [response.index(tag) for tag in TAGS]
    if positions != sorted(positions):
        order = sorted(TAGS, key=response.index)
        raise _FormatFault(f"tags in the order {' '.join(order)} instead of {' '.join(TAGS)}")
    before, rest = response.split("<think>")
    thinking, rest = rest.split("</think>")
    between, rest = rest.split("<answer>")
    answer, after = rest.split("</answer>")
    for text, where in (
        (before, "before <think>"),
        (between, "between </think> and <answer>"),
        (after, "after </answer>"),
    ):
        if text.strip():
            raise _FormatFault(f"text {where}: {_excerpt(text)}")
    if not thinking.strip():
        raise _FormatFault("nothing between <think> and </think>")
    return answer


def read_answer(answer: str, names: Sequence[str]) -> list[str]:
    """The role word, in lower case, that the answer gives to each person of `names`."""
    text = " ".join(answer.split())
    said: dict[str, str] = {}
    position = 0
    while position < len(text):
        label = _LABEL.match(text, position)
        start = label.end() if label else position
        name, word, end = _read_claim(text, start, names)
        if name in said:
            raise _AnswerFault(
                f"{name} is named twice" if said[name] == word else f"{name} is called both knight and knave"
            )
        said[name] = word
        between = _BETWEEN.match(text, end)
        if between is None:
            raise _AnswerFault(f"unexpected text after {text[start:end]!r}: {_excerpt(text[end:])}")
        position = between.end()
    missing = [name for name in names if name not in said]
    if missing:
        raise _AnswerFault(f"{', '.join(missing)} left out")
    return [said[name] for name in names]


def _read_claim(text: str, start: int, names: Sequence[str]) -> tuple[str, str, int]:
    """The name and the role word of the claim that starts there, and where it ends."""
    for name in names:
        end = start + len(name)
        # What follows a name is matched too, so none is taken for the beginning of another.
        role = _ROLE.match(text, end)
        if role and text[start:end].lower() == name.lower():
            return name, role[1].lower(), role.end()
    raise _AnswerFault(_why_no_claim(text, start))


def _why_no_claim(text: str, start: int) -> str:
    match = _ANYBODY.match(text, start)
    if match is None:
        return f"expected 'NAME is a knight' or 'NAME is a knave', got {_excerpt(text[start:])}"
    if match[2].lower() == "not a":
        return f"it says what {match[1]} is not; expected '{match[1]} is a knight' or '... a knave'"
    return f"{match[1]} is not in the puzzle"


def _excerpt(text: str) -> str:
    """The beginning of a text for a message, with control characters made visible."""
    shown = text.strip()
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")
