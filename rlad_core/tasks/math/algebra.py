r"""Compares what is no single number: math-verify reads it, and the values are compared here.

math-verify's own comparison rounds to six decimals and takes words for products. This one compares exactly:
rationals as rationals, other constants to 50 digits of their own size, expressions with variables at random
points, where two analytic functions that differ do so with probability 1.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from rlad_core.tasks.math.notation import Unreadable

MAX_LENGTH = 400
DIGITS = 50
_WARM = (
    *(r"\frac{1}{2}", r"3\sqrt{13}", r"x^2+3x-4", r"\frac{\sqrt{3}+1}{2}", r"2\pi r h", r"0.5", r"\sin(x)+1"),
    *(
        r"x>3",
        r"\log_2 3",
        r"5!",
        r"\binom{5}{2}",
        r"3+4i",
        r"|x-2|",
        r"e^{2}",
        r"a_n",
        r"(x+1)(x-2)",
        r"y=2x+3",
    ),
    *(
        r"-\frac{x}{y}",
        r"2^{n+1}-1",
        r"\sqrt[3]{2}",
        r"\frac{a+b}{2}",
        r"\cos(\frac{\pi}{3})",
        r"x^2+y^2=1",
        r"\ln 2",
    ),
    *(
        r"\tan x",
        r"\frac{n(n+1)}{2}",
        r"4 \cdot 3",
        r"2x - 3 \le 5",
        r"\lfloor x \rfloor",
        r"\frac{3x^2}{2}",
        r"-3",
    ),
    *(
        r"\frac{23\pi}{24}",
        r"(8x-5)^2",
        r"e^{-3x}",
        r"\sin 36x",
        r"63x^2-33x-97",
        r"2^{22}-68",
        r"9\sqrt{2}+3",
    ),
    *(
        r"\frac{5}{x+2}",
        r"a^2+6ab+b^2",
        r"\frac{-b-\sqrt{3}}{2a}",
        r"\pi r^2",
        r"\frac{1}{3}(x-1)",
        r"x^3-2x^2y",
    ),
)
_DECIMAL = re.compile(r"(?<![\w.])(\d*)\.(\d+)(?![\d.])")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\\circ(?![A-Za-z])")
_PLUS_MINUS = re.compile(r"\\[pm][mp](?![A-Za-z])")
_MIXED = re.compile(r"(?<![\w.}^\\])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")
_PRODUCT = re.compile(r"((?<![\w.}\\])\d+|\))\s*\((?=.)")
_UNSAFE = re.compile(
    r"!!|\d{400,}|['\"]|\d_|_\{?\w+\}?_|\\begin|\\cancel|\\pmod|\\ldots|\\dots|\\cdots|\.\.\."
)


def warm_up() -> None:
    """Load the algebra and have its parser see what is usual; it is ten times as fast afterwards."""
    for text in _WARM:
        read(text)


@functools.lru_cache(maxsize=512)
def read(text: str) -> Any:
    """The value of a plain text as sympy has it.

    Raises:
        Unreadable: math-verify does not read it.
    """
    if len(text) > MAX_LENGTH:
        raise Unreadable(f"{len(text)} characters of algebra, more than {MAX_LENGTH}")
    if _UNSAFE.search(text) or _PLUS_MINUS.search(text):
        raise Unreadable("it is no mathematics that can be compared")
    if _TRIGONOMETRIC.search(text):
        text = _DEGREES.sub(r"{\\frac{\1 \\pi}{180}}", text)
    text = _DECIMAL.sub(lambda found: _fraction(found[1], found[2]), text)
    text = _MIXED.sub(_mixed, text)
    # Two numbers side by side are a mixed number to the parser, so that 3(4) would be 7.
    text = _PRODUCT.sub(r"\1\\cdot(", text)
    parsed = _guarded(_reader(), text)
    if parsed is None:
        raise Unreadable("it is no mathematics")
    return parsed


def equal(wanted: str, given: str) -> bool:
    """Whether two plain texts have the same value. It may not come back.

    Raises:
        Unreadable: one of them has none.
    """
    gold, answer = read(wanted), read(given)
    return bool(_guarded(_same, gold, answer))


def _fraction(whole: str, part: str) -> str:
    return f"\\frac{{{int((whole or '0') + part)}}}{{{10 ** len(part)}}}"


def _mixed(found: re.Match[str]) -> str:
    """2 2/3 is a sum, 2 5/3 a product."""
    sign = "+" if int(found[2]) < int(found[3]) else "\\cdot "
    return f"({found[1]}{sign}\\frac{{{found[2]}}}{{{found[3]}}})"


@functools.cache
def _reader() -> Callable[[str], Any]:
    """math-verify's reader of LaTeX, as math-verify uses it but for two things.

    Capital letters stay what they are, and its list of units, which holds letters that are variables as well,
    is left out: `units` has read them already. Imported at the first use: it takes a second, and most who
    import the tasks never verify.
    """
    from latex2sympy2_extended import NormalizationConfig, latex2sympy, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig
    from math_verify.grader import should_treat_as_complex

    dress = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    letters = ConversionConfig(lowercase_symbols=False)

    def parse(text: str) -> Any:
        latex = normalize_latex(text, dress)
        return latex2sympy(
            latex,
            is_real=not should_treat_as_complex(latex),
            convert_degrees=False,
            normalization_config=None,
            conversion_config=letters,
        )

    return parse


def _guarded(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call into the algebra: whatever it stumbles over says that the answer cannot be read.

    Parser and algebra raise whatever their depths raise (recursion, attribute, type, overflow errors), so
    there is no list of what to expect.
    """
    try:
        return function(*arguments)
    except (MemoryError, Unreadable):
        raise
    except Exception as error:
        raise Unreadable(f"the algebra gave up on it ({type(error).__name__})") from error


def _same(gold: Any, answer: Any) -> bool:
    import sympy

    if isinstance(gold, sympy.MatrixBase) or isinstance(answer, sympy.MatrixBase):
        return (
            isinstance(gold, sympy.MatrixBase)
            and isinstance(answer, sympy.MatrixBase)
            and gold.shape == answer.shape
            and all(_same(one, other) for one, other in zip(gold.flat(), answer.flat(), strict=True))
        )
    if isinstance(gold, sympy.Tuple) or isinstance(answer, sympy.Tuple):
        return (
            type(gold) is type(answer)
            and len(gold) == len(answer)
            and all(_same(one, other) for one, other in zip(gold, answer, strict=True))
        )
    if isinstance(gold, sympy.Set) or isinstance(answer, sympy.Set):
        return isinstance(gold, sympy.Set) and isinstance(answer, sympy.Set) and _same_sets(gold, answer)
    if isinstance(gold, sympy.core.relational.Relational) or isinstance(
        answer, sympy.core.relational.Relational
    ):
        return _same_relations(gold, answer)
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


def _same_sets(gold: Any, answer: Any) -> bool:
    import sympy

    if isinstance(gold, sympy.FiniteSet) and isinstance(answer, sympy.FiniteSet):
        rest = list(answer)
        for one in gold:
            found = next((other for other in rest if _same(one, other)), None)
            if found is None:
                return False
            rest.remove(found)
        return not rest
    return bool(gold == answer) or bool(gold.symmetric_difference(answer).is_empty)


def _same_relations(gold: Any, answer: Any) -> bool:
    """Equal up to a factor: of any sign for equations, of none but a positive number for inequalities."""
    import sympy

    relational = sympy.core.relational.Relational
    if not (isinstance(gold, relational) and isinstance(answer, relational)):
        return False
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


def decimal(text: str) -> Fraction | None:
    """A constant to as many digits as `DIGITS`; None: it is none, or not real."""
    import sympy

    value = _guarded(lambda: sympy.N(read(text).doit(), DIGITS))
    return Fraction(str(value)) if isinstance(value, sympy.Float | sympy.Rational) else None
