r"""What is no single number, as math-verify reads it: a value of sympy's. `equivalence` compares two."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from rlad_core.tasks.math.notation import Unreadable

MAX_LENGTH = 400
DIGITS = 50
_WARM = r"""\frac{1}{2}
3\sqrt{13}
x^2+3x-4
\frac{\sqrt{3}+1}{2}
2\pi r h
0.5
\sin(x)+1
x>3
\log_2 3
5!
\binom{5}{2}
3+4i
|x-2|
e^{2}
a_n
(x+1)(x-2)
y=2x+3
-\frac{x}{y}
2^{n+1}-1
\sqrt[3]{2}
\frac{a+b}{2}
\cos(\frac{\pi}{3})
x^2+y^2=1
\ln 2
\tan x
\frac{n(n+1)}{2}
4 \cdot 3
2x - 3 \le 5
\lfloor x \rfloor
\frac{3x^2}{2}
-3
\frac{23\pi}{24}
(8x-5)^2
e^{-3x}
\sin 36x
63x^2-33x-97
2^{22}-68
9\sqrt{2}+3
\frac{5}{x+2}
a^2+6ab+b^2
\frac{-b-\sqrt{3}}{2a}
\pi r^2
\frac{1}{3}(x-1)
x^3-2x^2y""".splitlines()
_DECIMAL = re.compile(r"(?<![\w.])(\d*)\.(\d+)(?![\d.])")
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?)\s*\^\s*\\circ(?![A-Za-z])")
_PLUS_MINUS = re.compile(r"\\[pm][mp](?![A-Za-z])")
_MIXED = re.compile(r"(?<![\w.}^\\])(\d+)\s*\\frac\{(\d+)\}\{(\d+)\}")
# Of two powers at once nobody knows which is taken first, and the parser takes the other one than people do.
_UNSAFE = re.compile(
    r"\^(?:\{[^{}]*\}|[^{}\s])\s*\^"
    r"|!!|\d{400,}|['\"]|\d\s*_|_\{?\w+\}?_|\\begin|\\cancel|\\not(?![A-Za-z])|\\pmod|\\ldots|\\dots|\\cdots|\.\.\."
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
    parsed = guarded(_reader(), text)
    if parsed is None:
        raise Unreadable("it is no mathematics")
    return parsed


def _fraction(whole: str, part: str) -> str:
    return f"\\frac{{{int((whole or '0') + part)}}}{{{10 ** len(part)}}}"


def _mixed(found: re.Match[str]) -> str:
    """2 2/3 is a sum, 2 5/3 a product."""
    sign = "+" if int(found[2]) < int(found[3]) else "\\cdot "
    return f"({found[1]}{sign}\\frac{{{found[2]}}}{{{found[3]}}})"


@functools.cache
def _reader() -> Callable[[str], Any]:
    r"""math-verify's reader of LaTeX, as math-verify uses it but for three things.

    Capital letters stay what they are, and its list of units, which holds letters that are variables as well,
    is left out: `units` has read them already. And what stands side by side is a product: a whole number and
    another one are a mixed number to it, so that \binom{5}{2}\binom{4}{2} would be 16. Mixed numbers were
    written out before (`_mixed`). Imported at the first use: it takes a second, and most who import the tasks
    never verify.
    """
    import sympy
    from latex2sympy2_extended import NormalizationConfig, normalize_latex
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
    from math_verify.grader import should_treat_as_complex

    class Reader(_Latex2Sympy):  # type: ignore[misc]  # of a library without types
        def convert_postfix_list(self, arr: Sequence[Any], i: int = 0) -> Any:
            first = self.convert_postfix(arr[i])
            is_derivative = isinstance(first, list) and len(first) == 1  # d/dx, and its x
            if i == len(arr) - 1 and not is_derivative:
                return first
            rest = self.convert_postfix_list(arr, i + 1)
            if is_derivative:
                return sympy.Derivative(rest, first[0])
            if any(isinstance(each, sympy.MatrixBase | sympy.MatrixExpr) for each in (first, rest)):
                return self.mat_mul_flat(first, rest)
            if not (isinstance(first, sympy.Expr) and isinstance(rest, sympy.Expr)):
                raise Unreadable("what is no number stands beside another value")
            return self.mul_flat(first, rest)

    dress = NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )
    letters = ConversionConfig(lowercase_symbols=False)

    def parse(text: str) -> Any:
        latex = normalize_latex(text, dress)
        return Reader(is_real=not should_treat_as_complex(latex), config=letters).parse(latex)

    return parse


def guarded(function: Callable[..., Any], *arguments: Any) -> Any:
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


def decimal(text: str) -> Fraction | None:
    """A constant to as many digits as `DIGITS`; None: it is none, or not real."""
    import sympy

    value = guarded(lambda: sympy.N(read(text).doit(), DIGITS))
    return Fraction(str(value)) if isinstance(value, sympy.Float | sympy.Rational) else None
