r"""Judges a reply to a math problem: finds the answer (`extract`) and compares it (`comparing`).

The reward is 1 for a right answer and 0 otherwise. Right means that the last answer of the reply is the gold
one, or that its last boxes together are the gold list; with `box: only` no other box may say anything else.
docs/verifiers.md has the whole policy.
"""

from __future__ import annotations

from rlad_core.tasks import excerpts
from rlad_core.tasks.base import Verdict
from rlad_core.tasks.math import algebra
from rlad_core.tasks.math.comparing import EXACT, Comparison, Tolerance
from rlad_core.tasks.math.extract import NoAnswer, offered
from rlad_core.tasks.math.judging import BoxPolicy
from rlad_core.tasks.math.notation import Unreadable
from rlad_core.tasks.math.quantities import has_unit
from rlad_core.tasks.math.units import is_measure

RIGHT, WRONG = 1.0, 0.0


def verify(response: str, gold: str, *, box: BoxPolicy = "last", tolerance: Tolerance = EXACT) -> Verdict:
    """Judge a reply. It raises for no text, but it may not come back.

    Only call this in a worker process that is killed when it takes too long or too much memory. An answer
    such as ``9^{9^9}`` keeps the algebra busy for ever, and math-verify's own time limit is a signal that
    works in the main thread alone, so it is switched off here.

    Args:
        response: what the model generated, special tokens left out.
        gold: the gold answer, in LaTeX or plain.
        box: "last": the last box counts; "only": all boxes have to say the same.
        tolerance: how far numbers may be apart.

    Raises:
        MemoryError: the process hit its memory limit; that is for whoever set it to judge.
    """
    try:
        found = offered(response)
    except NoAnswer as fault:
        return _verdict(WRONG, f"no answer: {fault}")
    compare = Comparison(tolerance)
    last = found.answers[-1]
    run = list(dict.fromkeys(found.run))
    if len(run) > 1 and _surely(compare, gold, ", ".join(run)):
        if box == "last" or set(found.answers) <= set(run):
            return _verdict(RIGHT, "right")
    elif found.listed and len(run) > 1 and not all(_surely(compare, run[0], each) for each in run[1:]):
        return _verdict(
            WRONG, f"several different answers: {excerpts.of_text(run[0])} and {excerpts.of_text(last)}"
        )
    answer = last
    try:
        if found.unit and is_measure(found.unit) and has_unit(gold) and not has_unit(last):
            answer = f"{last} \\text{{ {found.unit}}}"  # of "\\boxed{5} cm"
        if not compare(gold, answer):
            return _verdict(
                WRONG, f"wrong answer: {excerpts.of_text(answer)} is not {excerpts.of_text(gold)}"
            )
    except Unreadable as fault:
        return _verdict(WRONG, f"unreadable answer {excerpts.of_text(last)}: {fault}")
    if box == "only":
        for other in dict.fromkeys(found.answers):
            if other != last and not _surely(compare, gold, other):
                return _verdict(
                    WRONG,
                    f"several different answers: {excerpts.of_text(other)} and {excerpts.of_text(last)}",
                )
    return _verdict(RIGHT, "right")


def warm_up() -> None:
    """Load the algebra, which takes seconds: for a worker process before a time limit counts."""
    algebra.warm_up()
    if not equal("\\sqrt{8}", "2\\sqrt{2}"):
        raise RuntimeError(
            "math-verify does not read square roots: reinstall it with the version in constraints.txt"
        )


def equal(gold: str, answer: str, tolerance: Tolerance = EXACT) -> bool:
    """Whether an answer is the gold one. As with `verify`, it may not come back.

    Raises:
        Unreadable: one of them cannot be understood, and they are not the same text.
    """
    return Comparison(tolerance)(gold, answer)


def _surely(compare: Comparison, gold: str, answer: str) -> bool:
    try:
        return compare(gold, answer)
    except Unreadable:
        return False


def _verdict(answer: float, reason: str) -> Verdict:
    return Verdict(reward=answer, parts={"answer": answer}, correct=answer == RIGHT, reason=reason)
