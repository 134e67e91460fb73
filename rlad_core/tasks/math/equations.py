r"""Compares equations with what they say something to be: x = 5 is 5, and 8 = 7 is nothing.

x = 5, f(x) = 5, \angle A = 5       5: the left side only names it
m+n = 5                             5 likewise, as an answer
2+3 = 5                             5: the left side has that value
y = 2x, f(x) = 2x                   the same
5 \approx 5.01                     either of the two: one is a remark
"""

from __future__ import annotations

import itertools
import re

from rlad_core.tasks.math import shapes
from rlad_core.tasks.math.nearness import near
from rlad_core.tasks.math.notation import plain
from rlad_core.tasks.math.parts import Same, same_item

_LETTER = r"[A-Za-z](?:_\{?\w+\}?)?"
_SUM = re.compile(rf"{_LETTER}(?:\s*[-+]\s*{_LETTER})+")
_VALUE = re.compile(r"[a-z]\([a-z]\)")


def same_equations(gold: str, answer: str, same: Same) -> bool | None:
    """Equations and what is said to be approximately equal; None: there is nothing of the kind.

    Args:
        gold, answer: plain texts.
        same: see `parts.same_parts`.
    """
    here, there = shapes.equation(gold), shapes.equation(answer)
    gold_member, answer_member = shapes.members(gold), shapes.members(answer)
    if gold_member != gold or answer_member != answer:
        return same(gold_member, answer_member)
    if len(here) == 1 and len(there) == 1:
        return _same_approximations(gold, answer, same)
    named = [shapes.is_name(sides[0]) and len(sides) > 1 for sides in (here, there)]
    if all(named):
        if not (shapes.same_name(here[0], there[0]) or _are_values(here[0], there[0])):
            return None if len(here) == len(there) == 2 else False
        return _same_chain(here[1:], there[1:], same)
    if len(here) == 1:
        if named[1] or _SUM.fullmatch(there[0]):
            return _same_chain(here, there[1:], same)
        return _same_chain(here, there, same)
    if len(there) == 1:
        return _same_chain(here[1:], there, same) if named[0] else False
    return None


def _same_chain(here: list[str], there: list[str], same: Same) -> bool:
    """The last of a chain counts, and what it says to be equal to it has to be."""
    wanted = plain(here[-1])
    return all(same_item(wanted, plain(side), same) for side in reversed(there) if side)


def _same_approximations(gold: str, answer: str, same: Same) -> bool | None:
    """What is called approximately equal is a remark, if it is: of 1 \\approx 2 neither is an answer."""
    if "\\approx" not in gold + answer:
        return None
    here, there = ([plain(side) for side in _values(text)] for text in (gold, answer))
    if not all(near(one, other) for one, other in itertools.combinations(there, 2)):
        return False
    return any(same_item(one, other, same) for one in here for other in there)


def _values(text: str) -> list[str]:
    """What is said to be approximately the same, without names: x \\approx 5 says 5."""
    sides = [side for side in re.split(r"\\approx(?![A-Za-z])", text) if side.strip()]
    return [side for side in sides if not shapes.is_name(side)] or sides


def _are_values(one: str, other: str) -> bool:
    """y and f(x), which both name the value of a function."""
    names = sorted((shapes.name_key(one), shapes.name_key(other)))
    return names[1] == "y" and _VALUE.fullmatch(names[0]) is not None
