"""Compares what is no single number, exactly.

math-verify's own comparison rounds to six decimals and takes words for products. This one compares rationals
as rationals, other constants to 50 digits of their own size, expressions with variables at random points,
where two analytic functions that differ do so with probability 1.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from rlad_core.tasks.math.algebra import DIGITS, guarded, read
from rlad_core.tasks.math.pairing import paired


def equal(wanted: str, given: str) -> bool:
    """Whether two plain texts have the same value. It may not come back.

    Raises:
        Unreadable: one of them has none.
    """
    gold, answer = read(wanted), read(given)
    return bool(guarded(_same, gold, answer))


def _same(gold: Any, answer: Any) -> bool:
    import sympy

    for kind, same in _composed():
        of_kind = [isinstance(each, kind) for each in (gold, answer)]
        if any(of_kind):
            return all(of_kind) and same(gold, answer)
    # A symbol is a Boolean to sympy, and a variable to us.
    truths = (sympy.logic.boolalg.Boolean, sympy.Symbol)
    if any(isinstance(each, truths[0]) and not isinstance(each, truths[1]) for each in (gold, answer)):
        return bool(gold == answer)
    if isinstance(gold, sympy.Symbol) or isinstance(answer, sympy.Symbol):
        if isinstance(gold, sympy.Symbol) and isinstance(answer, sympy.Symbol):
            return str(gold) == str(answer)
        if {str(gold), str(answer)} == {"e", "E"}:
            return True
    return _same_values(gold, answer)


@functools.cache
def _composed() -> list[tuple[type, Callable[[Any, Any], bool]]]:
    """What is made of other values, and how two of a kind are compared."""
    import sympy

    return [
        (sympy.MatrixBase, _same_matrices),
        (sympy.Tuple, _same_tuples),
        (sympy.Set, _same_sets),
        (sympy.core.relational.Relational, _same_relations),
    ]


def _same_matrices(gold: Any, answer: Any) -> bool:
    return gold.shape == answer.shape and all(map(_same, gold.flat(), answer.flat()))


def _same_tuples(gold: Any, answer: Any) -> bool:
    return type(gold) is type(answer) and len(gold) == len(answer) and all(map(_same, gold, answer))


def _same_sets(gold: Any, answer: Any) -> bool:
    import sympy

    if isinstance(gold, sympy.FiniteSet) and isinstance(answer, sympy.FiniteSet):
        return paired(gold, answer, _same)
    return bool(gold == answer) or bool(gold.symmetric_difference(answer).is_empty)


def _same_relations(gold: Any, answer: Any) -> bool:
    """Equal up to a factor: of any sign for equations, of none but a positive number for inequalities."""
    import sympy

    if type(gold) is not type(answer):
        answer = answer.reversed
        if type(gold) is not type(answer):
            return False
    one, other = gold.lhs - gold.rhs, answer.lhs - answer.rhs
    if one.free_symbols != other.free_symbols or not one.free_symbols:
        return False
    if _same_values(one, other):
        return True
    ratio = sympy.cancel(sympy.together(one / other))
    if ratio.free_symbols or not ratio.is_number:
        return False
    return bool(ratio.is_nonzero) if isinstance(gold, sympy.Eq) else bool(ratio.is_positive)


def _same_values(gold: Any, answer: Any) -> bool:
    import sympy

    if gold.doit().has(sympy.nan, sympy.zoo) or answer.doit().has(sympy.nan, sympy.zoo):
        return False  # what divides by zero is equal to nothing
    if gold == answer:
        return True
    if isinstance(gold, sympy.Rational) and isinstance(answer, sympy.Rational):
        return False
    i = [each for each in gold.free_symbols | answer.free_symbols if str(each) == "i"]
    if i:
        gold, answer = (each.subs(dict.fromkeys(i, sympy.I)) for each in (gold, answer))
    # The same letter may have been read with other assumptions on the two sides.
    letters = sorted({str(each) for each in gold.free_symbols | answer.free_symbols})
    gold, answer = (
        each.xreplace({symbol: sympy.Symbol(str(symbol)) for symbol in each.free_symbols})
        for each in (gold, answer)
    )
    if any(each.atoms(sympy.core.function.AppliedUndef) for each in (gold, answer)):
        return bool(sympy.simplify(gold - answer) == 0)
    if not letters:
        return _same_constants(gold, answer) is True
    agreed = 0
    for point in _points(len(letters)):
        values = dict(zip((sympy.Symbol(each) for each in letters), point, strict=True))
        found = _same_constants(gold.subs(values), answer.subs(values), sampled=True)
        if found is False:
            return False
        agreed += found is True
        if agreed >= _ENOUGH:
            return True
    return agreed > 0 and bool(sympy.simplify(gold - answer) == 0)


_ENOUGH = 5


@functools.cache
def _points(letters: int) -> list[list[Any]]:
    """Rational points without a pattern, of both signs, between 1/9 and 4; then whole numbers."""
    import random

    import sympy

    drawn = random.Random(letters)
    mixed = [
        [sympy.Rational(drawn.randint(11, 389), 97) * drawn.choice((1, 1, -1)) for _ in range(letters)]
        for _ in range(10)
    ]
    whole = [[sympy.Integer(drawn.randint(2, 9)) for _ in range(letters)] for _ in range(6)]
    return mixed + whole


def _same_constants(gold: Any, answer: Any, *, sampled: bool = False) -> bool | None:
    """None: it cannot be said, as at a point where one of them is not real."""
    import sympy

    gold, answer = gold.doit(), answer.doit()
    if isinstance(gold, sympy.Rational) and isinstance(answer, sympy.Rational):
        return bool(gold == answer)
    one, other = (sympy.N(each, DIGITS + 10) for each in (gold, answer))
    if not (one.is_number and other.is_number):
        return None
    if any(each.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo) for each in (one, other)):
        return None if sampled else bool(one == other)
    size, apart = max(abs(one), abs(other)), abs(one - other)
    if size < sympy.Float(10, DIGITS) ** -DIGITS:  # nothing, or what cancels to nothing
        return bool(sympy.simplify(gold - answer) == 0)
    if apart <= size * sympy.Float(10, DIGITS) ** -DIGITS:
        return True
    return None if sampled and not (one.is_real and other.is_real) else False
