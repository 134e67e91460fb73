r"""What a row of a data file asks, and the answer, in the row formats of the field.

    format  columns                  the answer is
    auto    the usual names, see     what follows the last #### of a text; else the last \boxed{...} of a text
            `rlad_core.tasks.columns` that has one; else the text or number as it is
    chat    prompt, reward_model     reward_model.ground_truth (verl, Skywork-OR1, DAPO): a text or a number,
                                     or the only entry of a list, also of one that is written as text
    gsm8k   question, answer         what follows the last #### of `answer`; the rest is the solution
    math    problem, solution        the last \boxed{...} of `solution` (MATH)

A prompt is a text, or a list of messages with role and content. Columns may be named otherwise. With ``auto``
a column `solution` is the worked solution, and holds the answer where no other column does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from rlad_core.tasks.columns import ANSWERED, ASKED, chosen, unwritten, value_in
from rlad_core.tasks.math.extract import find_boxes
from rlad_core.tasks.math.notation import Unreadable, plain
from rlad_core.tasks.math.numbers import number
from rlad_core.tasks.math.prompt import asking_for_a_box
from rlad_core.tasks.rows import AskedRow, messages_of

Format = Literal["auto", "chat", "gsm8k", "math"]
SOLVED = "solution"
# Format -> the columns of prompt and answer; several names are tried in turn.
COLUMNS: dict[Format, tuple[Sequence[str], Sequence[str]]] = {
    "auto": (ASKED, ANSWERED),
    "chat": (("prompt",), ("reward_model.ground_truth",)),
    "gsm8k": (("question",), ("answer",)),
    "math": (("problem",), (SOLVED,)),
}

_CALCULATION = re.compile(r"<<[^<>]*>>")
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d*)?")
_BLANK = re.compile(r"(?<!\d) | (?!\d)")
"""That separates nothing: 2 1/2 is not 21/2."""
# What programs write where they have no value.
_NO_ANSWER = ("nan", "-nan", "null", "<na>", "inf", "+inf", "-inf")


@dataclass(frozen=True)
class MathProblem:
    """One problem.

    messages: the chat that asks it, and asks for a box.
    answer: the gold answer, not empty.
    solution: the data's own worked solution, if it has one.
    """

    messages: list[dict[str, str]]
    answer: str
    solution: str | None = None

    def to_gold(self) -> str:
        """As it travels in the column `gold`."""
        return json.dumps({"answer": self.answer, "solution": self.solution})


@dataclass(frozen=True)
class ProblemReader:
    """Reads rows of a format.

    prompt, gold, solution: columns; None: by the format's names.
    """

    format: Format = "auto"
    prompt: str | None = None
    gold: str | None = None
    solution: str | None = None

    def choose(self, names: Sequence[str]) -> Sequence[str]:
        """The columns of the prompt, the answer and the solution."""
        asked, answered = COLUMNS[self.format]
        wanted = [*chosen(names, self.prompt, asked), *chosen(names, self.gold, answered)]
        if self.solution is not None:
            wanted += chosen(names, self.solution, ())
        wanted += [name for name in names if name.casefold() == SOLVED]
        return list(dict.fromkeys(wanted))

    def read(self, values: dict[str, Any]) -> AskedRow:
        """See `RowReader.read`."""
        problem = self.problem(values)
        return AskedRow(problem.messages, problem.to_gold(), comparable(problem.answer))

    def problem(self, row: Mapping[str, Any]) -> MathProblem:
        """The problem of a row.

        Raises:
            ValueError: it is none of this format.
        """
        asked, answered = COLUMNS[self.format]
        messages = messages_of(value_in(row, self.prompt, asked)[1])
        if messages[-1]["role"] != "user":
            raise ValueError("the last message of the prompt is not the user's")
        column, value = value_in(row, self.gold, answered)
        answer, solution = self._answer(column, value)
        if self.format == "auto":
            solution = self._solution(row) or solution
        if answer.strip().lower() in _NO_ANSWER:
            raise ValueError(f"{column} is {answer.strip()}, which answers nothing")
        return MathProblem(asking_for_a_box(messages), answer, solution)

    def _answer(self, column: str, value: Any) -> tuple[str, str | None]:
        """The answer, and the solution that stands before it."""
        text = _text(column, value)
        if self.format == "gsm8k" or (self.format == "auto" and "####" in text):
            solution, mark, answer = text.rpartition("####")
            if not mark or not answer.strip():
                raise ValueError(f"{column} has no '#### 42' at its end: {text[-60:]!r}")
            return answer.strip(), _CALCULATION.sub("", solution).strip() or None
        solved = self.format == "math" or column.casefold() == SOLVED
        if solved or "\\boxed" in text:
            return _boxed(text), text.strip() if solved else None
        return text.strip(), None

    def _solution(self, row: Mapping[str, Any]) -> str | None:
        try:
            text = value_in(row, self.solution, (SOLVED,))[1]
        except ValueError:
            if self.solution is not None:
                raise
            return None
        return text.strip() if isinstance(text, str) else None


def comparable(answer: str) -> str:
    r"""An answer in one way of writing it: 27.0, +27 and $27 are 27, 1,000 is 1000, \dfrac12 \frac{1}{2}."""
    try:
        text = plain(answer)
    except Unreadable:
        text = " ".join(answer.split())
    text = _BLANK.sub("", text.strip("$"))
    if (found := number(text)) and not found.percent and found.value.denominator == 1:
        return str(found.value)
    if text.strip("+-.,") and _NUMBER.fullmatch(text):
        return number_text(Decimal(text.replace(",", "")))
    return text


def number_text(value: float | Decimal) -> str:
    """A number as people write it: 27.0 is 27, and 1e-7 is 0.0000001.

    Raises:
        ValueError: it is not finite.
    """
    # An integer or a decimal of any length is finite, and no float may be able to hold it.
    finite = math.isfinite(value) if isinstance(value, float) else Decimal(value).is_finite()
    if not finite:
        raise ValueError(f"the answer is {value}, which is no finite number")
    text = format(value if isinstance(value, Decimal) else Decimal(str(value)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text if value else "0"


def _text(column: str, value: Any) -> str:
    """An answer as a text: of a number, or the only entry of a list, also of one that stands in a text."""
    found = value
    if isinstance(found, str) and found.lstrip().startswith(('["', "['")):
        found = unwritten(found)
        if isinstance(found, str):
            raise ValueError(f"{column} begins like a list of texts and is none: {found[:80]!r}")
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, int | float | Decimal) and not isinstance(found, bool):
        return number_text(found)
    if not isinstance(found, str) or not found.strip():
        raise ValueError(f"{column} is not one answer: {str(found)[:80]!r}")
    try:
        found.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{column} holds half a character (a lone surrogate)") from error
    return found


def _boxed(solution: str) -> str:
    contents = [content.strip() for content in find_boxes(solution).contents if content.strip()]
    if not contents:
        raise ValueError(f"nothing in \\boxed{{}}: {solution[-60:]!r}")
    return contents[-1]
