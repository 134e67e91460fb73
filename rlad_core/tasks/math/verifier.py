r"""Judges a reply to a math problem: finds the answer, and asks math-verify whether it is the gold one.

The reward is 1 for a right answer and 0 otherwise. Right means that every answer the reply offers (`extract`)
equals the gold answer: the last one, and any other it still holds up, so that guessing several does not pay.

Equal means (`notation`, then math-verify with the gold answer first, because it is not symmetric):

    the same text                          right, without looking at it as mathematics
    numbers, expressions                   equal symbolically; decimals to 6 places (0.333333 is 1/3)
    x = 5                                  is 5, and 5 is x = 5; y = 5 is not x = 5
    percentages                            50% is 0.5 and 1/2, and also 50 where the gold answer is 50, since
                                           questions for a percentage have either. 0.5 is not 50
    units, degrees                         read over
    lists without parentheses              in any order: 0,1 is 1,0, and it is not 01
    longer than 400 characters, brackets   unreadable, so wrong, unless it is the text of the gold answer
    nested more than 12 deep
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

from rlad_core.tasks.base import Verdict
from rlad_core.tasks.math.extract import NoAnswer, offered
from rlad_core.tasks.math.notation import Unreadable, repaired

RIGHT, WRONG = 1.0, 0.0


def verify(response: str, gold: str) -> Verdict:
    """Judge a reply. It raises for no text, but it may not come back.

    Only call this in a worker process that is killed when it takes too long or too much memory. An answer
    such as ``9^{9^9}`` keeps the algebra busy for ever, and math-verify's own time limit is a signal that
    works in the main thread alone, so it is switched off here.

    Args:
        response: what the model generated, special tokens left out.
        gold: the gold answer, in LaTeX or plain.

    Raises:
        MemoryError: the process hit its memory limit; that is for whoever set it to judge.
    """
    try:
        answers = offered(response)
    except NoAnswer as fault:
        return _verdict(WRONG, f"no answer: {fault}")
    last = answers[-1]
    try:
        if not equal(gold, last):
            return _verdict(WRONG, f"wrong answer: {_excerpt(last)} is not {_excerpt(gold)}")
    except Unreadable as fault:
        return _verdict(WRONG, f"unreadable answer {_excerpt(last)}: {fault}")
    for other in dict.fromkeys(answers):
        if other != last and not _surely_equal(gold, other):
            return _verdict(WRONG, f"several different answers: {_excerpt(other)} and {_excerpt(last)}")
    return _verdict(RIGHT, "right")


def warm_up() -> None:
    """Load the algebra, which takes seconds: for a worker process before a time limit counts."""
    if not equal("\\frac{1}{2}", "0.5"):
        raise RuntimeError(
            "math-verify says that 0.5 is not 1/2: reinstall it with the version in constraints.txt"
        )


def equal(gold: str, answer: str) -> bool:
    """Whether an answer is the gold one. As with `verify`, it may not come back.

    Raises:
        Unreadable: one of them cannot be understood, and they are not the same text.
    """
    if gold.strip() == answer.strip():
        return True
    wanted, given = _readable_gold(gold), repaired(answer)
    if wanted == given:
        return True
    compare, read = _algebra()
    gold_value = read(wanted)
    if not gold_value:
        raise Unreadable(
            f"the gold answer {_excerpt(gold)} is no mathematics, so only its very text is right"
        )
    value = read(given)
    if not value:
        raise Unreadable("it is no mathematics")
    return compare(gold_value, value)


def _surely_equal(gold: str, answer: str) -> bool:
    try:
        return equal(gold, answer)
    except Unreadable:
        return False


def _readable_gold(gold: str) -> str:
    try:
        return repaired(gold)
    except Unreadable as fault:
        raise Unreadable(
            f"the gold answer {_excerpt(gold)} has {fault}, so only its very text is right"
        ) from fault


@functools.cache
def _algebra() -> tuple[Callable[[list[Any], list[Any]], bool], Callable[[str], list[Any]]]:
    """math-verify's comparison and its reader of LaTeX, without their time limits.

    Imported at the first use: it takes a second, and most who import the tasks never verify.
    """
    import math_verify

    # It warns once a process that nothing limits its time; `verify` says who does.
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    latex = math_verify.LatexExtractionConfig(boxed_match_priority=0)

    def read(answer: str) -> list[Any]:
        return list(
            _guarded(
                math_verify.parse,
                f"\\boxed{{{answer}}}",
                [latex],
                fallback_mode="no_fallback",
                parsing_timeout=None,
                raise_on_error=True,
            )
        )

    def compare(gold: list[Any], answer: list[Any]) -> bool:
        return bool(_guarded(math_verify.verify, gold, answer, timeout_seconds=None, raise_on_error=True))

    return compare, read


def _guarded(function: Callable[..., Any], *arguments: Any, **settings: Any) -> Any:
    """Call into the algebra: whatever it stumbles over says that the answer cannot be read.

    Parser and algebra raise whatever their depths raise (recursion, attribute, type, overflow errors), so
    there is no list of what to expect.
    """
    try:
        return function(*arguments, **settings)
    except MemoryError:
        raise
    except Exception as error:
        raise Unreadable(f"the algebra gave up on it ({type(error).__name__})") from error


def _verdict(answer: float, reason: str) -> Verdict:
    return Verdict(reward=answer, parts={"answer": answer}, correct=answer == RIGHT, reason=reason)


def _excerpt(text: str) -> str:
    """The beginning of a text for a message, with control characters made visible."""
    shown = text.strip()
    return repr(shown if len(shown) <= 60 else shown[:57] + "...")
