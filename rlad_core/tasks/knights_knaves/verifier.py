"""Judges a reply to a puzzle: a strict reader of its form and its answer, and the reward of Logic-RL.

The reward (arXiv 2502.14768, section 2.2) has two parts. The answer is only read when the form is right:

    form     answer                            format  answer  total
    wrong    not read                            -1      -2     -3
    right    cannot be read as an assignment     +1      -2     -1
    right    wrong                               +1      -1.5   -0.5
    right    right for every person              +1      +2     +3     the only one that counts as correct

Form: `<think> ... </think><answer> ... </answer>`, each tag exactly once and in this order, in the model's
turn (what the prompt had opened of it counts, see `rlad_core.turn`).

    empty thinking                                right form
    end tokens left in, such as <|im_end|>        right form, they are read over
    a lead-in between </think> and <answer>       right form, where it is one line that says nothing
    text before <think> or after </answer>        wrong form
    more text between </think> and <answer>       wrong form
    a tag twice, several answer blocks            wrong form, also if the reasoning quotes a tag
    a tag in other letters (<Think>)              wrong form: that tag is missing
    no </answer>, as when cut off at the limit    wrong form

Answer: for each person once "NAME is a knight" or "NAME is a knave", in the words of the puzzle's island, and
nothing else. Whole words are compared, so names that contain one another (Ella, Isabella) cannot be taken for
each other.

    numbers such as (1), 1. or 1), bullets        read over, whatever they are: the name says who is meant
    Markdown's emphasis (**Zoey is a knight**)    read over
    a lead-in ("The answer is:")                  read over, where it is one line that says nothing
    another order of the people                   read
    another case (zoey is a KNIGHT)               read
    one line, with or without . , ; "and"         read; the published `solution_text` has this form
    a person left out                             unreadable, an empty answer likewise
    a person named twice, with one role or both   unreadable
    somebody who is not in the puzzle             unreadable
    "is not a knight"                             unreadable, even though it leaves only one role
    other words, the question                     unreadable
    role words of another island (truth-teller)   unreadable

A lead-in says nothing where it holds no claim, and none of the words by which it could deny what follows.
docs/verifiers.md has what Logic-RL's own reader takes beside that.
"""

from __future__ import annotations

import functools
import re

from rlad_core.tasks import excerpts
from rlad_core.tasks.base import Verdict
from rlad_core.tasks.knights_knaves.islanders import Islanders, a
from rlad_core.tasks.knights_knaves.puzzle import Puzzle

TAGS = ("<think>", "</think>", "<answer>", "</answer>")

FORMAT_RIGHT, FORMAT_WRONG = 1.0, -1.0
ANSWER_RIGHT, ANSWER_WRONG, ANSWER_UNREADABLE = 2.0, -1.5, -2.0

END_TOKENS = (
    "<|im_end|>",
    "<|endoftext|>",
    "</s>",
    "<|eot_id|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
)
"""Of Qwen, Llama 2 and Mistral, Llama 3, Gemma and DeepSeek."""

_LEAD_IN_LENGTH = 100
_SAYS_SOMETHING = re.compile(
    r"\b(?:is an?|not|no|never|neither|false|untrue|wrong|incorrect|opposite|if|unless|either|or"
    r"|(?:is|are)(?: all)?(?: a)? lies?|doubt\w*|den(?:y|ies|ied)|reject\w*|revers\w*|invers\w*"
    r"|invert\w*|swap\w*|contrary|nobody|none|nothing|cannot|unlikely|except"
    r"|negat\w*|flip\w*|falsehoods?|falsely|wrongly|incorrectly|untruths?|ignore|disregard|hypothe\w*"
    r"|impossible|contradict\w*|refut\w*|disprove[sn]?|mistak\w*|fail\w*"
    r"|assum(?:e|ing)|suppos(?:e|ing))\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_EMPHASIS = str.maketrans("", "", "*`")
# The answer is matched after its whitespace has become single blanks, so no pattern repeats without bounds.
_LABEL = re.compile(r"(?:[-+\u2022\u00b7\u2013] ?)?(?:(?:\(\d{1,2}\)|\d{1,2}[.)]) ?)?")
_BETWEEN = re.compile(r" ?[.,;]?(?: and(?= ))?(?: |$)", re.IGNORECASE)


def verify(response: str, puzzle: Puzzle) -> Verdict:
    """Judge a reply. Any text is an input like any other; the time is linear in its length.

    Args:
        response: the model's turn.
    """
    try:
        answer = read_form(response, puzzle.islanders)
    except _FormatFault as fault:
        return _verdict(FORMAT_WRONG, ANSWER_UNREADABLE, f"form: {fault}")
    try:
        roles = read_answer(answer, puzzle)
    except _AnswerFault as fault:
        return _verdict(FORMAT_RIGHT, ANSWER_UNREADABLE, f"unreadable answer: {fault}")
    wrong = [
        f"{name} is {a(true)}, not {a(said)}"
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


def read_form(turn: str, islanders: Islanders) -> str:
    """What stands between `<answer>` and `</answer>` of a turn in the right form."""
    turn = _without_end_tokens(turn)
    for tag in TAGS:
        count = turn.count(tag)
        if count != 1:
            raise _FormatFault(f"{tag} is missing" if not count else f"{tag} occurs {count} times")
    positions = [turn.index(tag) for tag in TAGS]
    if positions != sorted(positions):
        order = sorted(TAGS, key=turn.index)
        raise _FormatFault(f"tags in the order {' '.join(order)} instead of {' '.join(TAGS)}")
    before, rest = turn.split("<think>")
    between, rest = rest.split("</think>")[1].split("<answer>")
    answer, after = rest.split("</answer>")
    for text, where in ((before, "before <think>"), (after, "after </answer>")):
        if text.strip():
            raise _FormatFault(f"text {where}: {excerpts.of_text(text)}")
    if not _says_nothing(between, islanders):
        raise _FormatFault(f"text between </think> and <answer>: {excerpts.of_text(between)}")
    return answer


def read_answer(answer: str, puzzle: Puzzle) -> list[str]:
    """The role word, in lower case, that the answer gives to each person of the puzzle."""
    text = _without_lead_in(answer, puzzle.islanders)
    text = " ".join(text.translate(_EMPHASIS).split())
    said: dict[str, str] = {}
    position = 0
    while position < len(text):
        label = _LABEL.match(text, position)
        start = label.end() if label else position
        name, word, end = _read_claim(text, start, puzzle)
        if name in said:
            raise _AnswerFault(
                f"{name} is named twice"
                if said[name] == word
                else f"{name} is called both {' and '.join(_words(puzzle.islanders))}"
            )
        said[name] = word
        between = _BETWEEN.match(text, end)
        if between is None:
            raise _AnswerFault(f"unexpected text after {text[start:end]!r}: {excerpts.of_text(text[end:])}")
        position = between.end()
    missing = [name for name in puzzle.names if name not in said]
    if missing:
        raise _AnswerFault(f"{', '.join(missing)} left out")
    return [said[name] for name in puzzle.names]


def _without_end_tokens(turn: str) -> str:
    end = len(turn)
    while True:
        while end and turn[end - 1].isspace():
            end -= 1
        token = next((token for token in END_TOKENS if turn.endswith(token, 0, end)), None)
        if token is None:
            return turn[:end]
        end -= len(token)


def _without_lead_in(answer: str, islanders: Islanders) -> str:
    """The answer without a first line, or a beginning with a colon, that says nothing."""
    text = answer.strip()
    for end in ("\n", ":"):
        place = text.find(end, 0, _LEAD_IN_LENGTH + 1)
        if place >= 0 and _says_nothing(text[:place], islanders):
            return text[place + 1 :]
    return text


def _says_nothing(text: str, islanders: Islanders) -> bool:
    """Whether it is a line at most, without a claim and without what could deny one."""
    text = text.strip()
    if len(text) > _LEAD_IN_LENGTH or "\n" in text or _SAYS_SOMETHING.search(text):
        return False
    return not any(word in text.lower() for word in _words(islanders))


def _read_claim(text: str, start: int, puzzle: Puzzle) -> tuple[str, str, int]:
    """The name and the role word of the claim that starts there, and where it ends."""
    claim = _patterns(puzzle.islanders)[0]
    for name in puzzle.names:
        end = start + len(name)
        # What follows a name is matched too, so none is taken for the beginning of another.
        role = claim.match(text, end)
        if role and text[start:end].lower() == name.lower():
            return name, role[1].lower().split()[-1], role.end()
    raise _AnswerFault(_why_no_claim(text, start, puzzle.islanders))


def _why_no_claim(text: str, start: int, islanders: Islanders) -> str:
    match = _patterns(islanders)[1].match(text, start)
    one, other = (a(word) for word in _words(islanders))
    if match is None:
        return f"expected 'NAME is {one}' or 'NAME is {other}', got {excerpts.of_text(text[start:])}"
    if match[2]:
        return f"it says what {match[1]} is not; expected '{match[1]} is {one}' or '... {other}'"
    return f"{match[1]} is not in the puzzle"


@functools.lru_cache(maxsize=64)
def _patterns(islanders: Islanders) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What follows a name in a claim; and a claim or its denial about anybody."""
    roles = "|".join(a(word) for word in _words(islanders))
    return (
        re.compile(rf" is ({roles})(?!\w)", re.IGNORECASE),
        re.compile(rf"(\w{{1,40}}) is (not )?(?:{roles})(?!\w)", re.IGNORECASE),
    )


def _words(islanders: Islanders) -> tuple[str, str]:
    return islanders.truthful, islanders.lying
