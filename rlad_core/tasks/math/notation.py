r"""Takes away how an answer is dressed, so that what is left is what it says.

    **73**, $73$, \(73\), "73", 73.     the wrapping and the full stop go
    \color{red}{5}, \underline{5}       5; so with bold, boxes in boxes, spaces, sizes, phantoms, check marks
    \approx 5, \text{about } 5, = 5     5
    \dfrac12, \tfrac{1}{2}, \frac12     \frac{1}{2}; so \binom52
    \textbf{cm}, \mathrm{cm}            \text{cm}
    \mathbb R, \R, \text A             \mathbb{R}, \mathbb{R}, \text{A}
    \pounds 5, \dots, "I and II only"   £5, \ldots, "I and II"
    √2, −5, ½, 2², 120°, ≤, π           \sqrt{2}, -5, \frac{1}{2}, 2^2, 120^\circ, \le, \pi
    4\sqrt(2), x**2                     4\sqrt{2}, x^2

Nothing is taken away that tells two answers apart.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable

from rlad_core.tasks.math.spellings import spelled

MAX_LENGTH = 1000
MAX_DEPTH = 12
"""The parser behind math-verify takes a minute for 300 nested braces; no published answer nests so deep."""


class Unreadable(Exception):
    """The answer cannot be compared; the message says why."""


_SIMPLE = re.compile(r"-?[0-9]{1,40}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_WRAPPINGS = (
    *(("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("`", "`"), ("{", "}"), ("**", "**")),
    *(('"', '"'), ("'", "'"), ("``", "''")),
)
_BOLD = re.compile(r"(?<!\S)\*\*([^*]+)\*\*(?![\w*])")
_END = re.compile(r"(?:[\s.;:?،。]|(?<!\\),|(?<!\\)\\\\|\\[,;: ]|\\(?![^\s]))+$")
_ENDS_WITH_DOTS = re.compile(r"\d(?:\.{3}|…|\\l?dots)\s*$")
_BEGINNING = re.compile(
    r"(?:\s|=|~|\\(?:approx|simeq|sim|cong|therefore|implies|Rightarrow)(?![A-Za-z])|:"
    r"|\\text\{\s*(?:about|approximately|approx\.?|roughly|around|nearly"
    r"|(?:the )?answer(?: is)?|final answer)"
    r"\s*:?\s*\}"
    r"|(?:about|approximately|approx\.|roughly|(?:the )?(?:final )?answer(?: is|:))(?![A-Za-z]))+",
    re.IGNORECASE,
)

_CHARACTERS = {
    **{"−": "-", "–": "-", "—": "-", "‐": "-", "‑": "-", "﹣": "-", "－": "-", "＋": "+", "＝": "="},
    **{"×": "\\times ", "⋅": "\\cdot ", "·": "\\cdot ", "∙": "\\cdot ", "÷": "/", "⁄": "/", "∕": "/"},
    **{"π": "\\pi ", "∞": "\\infty ", "°": "^\\circ ", "º": "^\\circ ", "∅": "\\emptyset ", "θ": "\\theta "},
    **{
        "≤": "\\le ",
        "⩽": "\\le ",
        "⩾": "\\ge ",
        "≥": "\\ge ",
        "≠": "\\ne ",
        "≈": "\\approx ",
        "±": "\\pm ",
        "∓": "\\mp ",
        "∪": "\\cup ",
    },
    **{
        "∩": "\\cap ",
        "∈": "\\in ",
        "ℝ": "\\mathbb{R}",
        "ℤ": "\\mathbb{Z}",
        "⟨": "\\langle ",
        "⟩": "\\rangle ",
    },
    **{"½": "\\frac{1}{2}", "⅓": "\\frac{1}{3}", "⅔": "\\frac{2}{3}", "¼": "\\frac{1}{4}"},
    **{"¾": "\\frac{3}{4}", "⅕": "\\frac{1}{5}", "⅙": "\\frac{1}{6}", "⅛": "\\frac{1}{8}"},
    **dict(zip("０１２３４５６７８９", map(str, range(10)), strict=True)),
    **{"，": ",", "；": ";", "：": ":", "（": "(", "）": ")", "％": "%", "．": ".", "。": ".", "、": ","},
    **dict.fromkeys(
        "\u00a0\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u3000", " "
    ),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff✓✔✅☑■□∎", ""),
    **{"℃": "^\\circ C", "℉": "^\\circ F", "∶": ":", "𝜋": "\\pi ", "𝑥": "x", "𝑖": "i", "𝑦": "y"},
    **{"Ω": "\\Omega ", "\u2126": "\\Omega ", "µ": "\\mu ", "μ": "\\mu "},
    **{"“": '"', "”": '"', "‘": "'", "’": "'"},
}
_TRANSLATED = str.maketrans(_CHARACTERS)
_RAISED = re.compile("[⁺⁻]?[⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_LEVEL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺₀₁₂₃₄₅₆₇₈₉", "0123456789-+0123456789")

_LETTER = r"(?![A-Za-z])"
_OF_ONE = "mathbb|mathcal|mathrm|mathsf|text|textbf|textrm|overline|bar|vec|hat"
"""Commands of one argument, whose braces may be left out around a single letter or figure."""
_REPLACED: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (re.compile(pattern), by)
    for pattern, by in (
        (r"(?<!\\)\\!\s*", ""),
        (r"\\Bbb(?![A-Za-z])", r"\\mathbb"),
        (r"\\([CNQRZ])(?![A-Za-z])", r"\\mathbb{\1}"),
        (rf"(\\(?:{_OF_ONE}))(?:\s+([A-Za-z])|\s*(\d))(?![A-Za-z0-9])", r"\1{\2\3}"),
        (r"\{,\}|\\text\{,\}", ","),
        (rf"\\(?:left|right|[bB]igg?[lrm]?){_LETTER}\.?(?=\s*[()\[\]{{}}|/\\.]|$)", ""),
        (rf"\\(?:(?:display|text|script)style|(?:no)?limits|rm|bf|it|[lL]arge|LARGE|[hH]uge){_LETTER}", ""),
        (r"\{\}(?=\s*$)|^\s*\{\}|\^\{\}", ""),
        (r"\\(?:[hv]?phantom|hspace|vspace|tag|label)\*?\s*\{[^{}]*\}", ""),
        (r"\\(?:text|math)?color\s*(?:\[\w*\])?\s*\{[^{}]*\}|\\colorbox\s*\{[^{}]*\}", ""),
        (rf"\\(?:checkmark|qed|blacksquare){_LETTER}", ""),
        (
            rf"\\(?:underline|mathbf|boldsymbol|bm|mathit|mathnormal|boxed|fbox|framebox|bbox|ensuremath){_LETTER}\s*",
            "",
        ),
        (
            r"\\(?:mathrm|mathsf|mathtt|mbox|hbox|textbf|textit|textrm|textsf|texttt|textup|textnormal|textmd"
            r"|operatorname|emph)\*?\s*(?=\{)",
            r"\\text",
        ),
        (r"\\text\s+\{", r"\\text{"),
        (r"\\text\{\s*\}|\\text\{\s*[.,;:]?\s*\}$", ""),
        (r"\\(?:[dtcs]|nice)frac(?![A-Za-z])", r"\\frac"),
        (r"\\(?:leq|leqslant)(?![A-Za-z])", r"\\le"),
        (r"\\(?:geq|geqslant)(?![A-Za-z])", r"\\ge"),
        (r"\\neq(?![A-Za-z])|\\not\s*(?:=|\\(?:approx|equiv|simeq|sim|cong)(?![A-Za-z]))", r"\\ne "),
        (r"\\(?:varnothing)(?![A-Za-z])", r"\\emptyset"),
        (r"\\[lr]brace(?![A-Za-z])", lambda found: "\\{" if found[0] == "\\lbrace" else "\\}"),
        (r"\\[lr]brack(?![A-Za-z])", lambda found: "[" if found[0] == "\\lbrack" else "]"),
        (r"\\(?:degrees?|textdegree)(?![A-Za-z])", r"^\\circ"),
        (r"\^\s*\{\s*\\circ\s*\}", r"^\\circ "),
        (r"\\%", "%"),
        (r"\\textdollar(?![A-Za-z])\s*(?:\{\})?", r"\\$"),
        (r"\\(?:pounds|textsterling)(?![A-Za-z])\s*(?:\{\})?", "£"),
        (r"\\(?:euro|EUR|texteuro)(?![A-Za-z])\s*(?:\{\})?", "€"),
        (r"\\(?:yen|textyen)(?![A-Za-z])\s*(?:\{\})?", "¥"),
        (r"\\(?:[cl]|h)?dots[bcimo]?(?![A-Za-z])", r"\\ldots"),
        (r"\{:\}|\\colon(?![A-Za-z])", ":"),
        (r"\\langle(?![A-Za-z])", "("),
        (r"\\rangle(?![A-Za-z])", ")"),
        (r"\\(?:q?quad|enspace|thinspace)(?![A-Za-z])|(?<!\\)\\[,;: ]|~", " "),
        (r"\*\*(?=\S)", "^"),
        (r"\\lg(?![A-Za-z])", r"\\log_{10}"),
    )
)
_OF_TWO = {
    name: re.compile(
        rf"({command})\s*(?:([0-9a-zA-Z]|\\pi)|\{{([^{{}}]*)\}})\s*(?:([0-9a-zA-Z])|\{{([^{{}}]*)\}})"
    )
    for name, command in (("binom", r"\\[dt]?binom"), ("\\frac", r"\\frac"))
}
_ROOT = re.compile(
    r"√\s*(\d+|[A-Za-z]|\([^()]*\))|\\sqrt\s*(\d|[A-Za-z](?![A-Za-z]))|(?<![\\A-Za-z])sqrt(?=\s*[({])"
)
_NUMBER_IN_TEXT = re.compile(r"\\text\{((?:[-+\d.,\s/%]|\b(?:and|or)\b|\\frac\{\d+\}\{\d+\})+)\}")
_SENTENCE_IN_TEXT = re.compile(
    r"^\\text\{\s*(?:so,?\s+)?the (?:final )?answer is:?\s*([-+]?[\d.,/]+)[.\s]*\}$", re.I
)
_DOTS_IN_LIST = re.compile(r",\s*(?:\.{3}|…)\s*(?=,|\}?\$?$)")
_ONLY = re.compile(r"(?<=[A-Za-z])\s+only\s*(?=\}?$)", re.I)
_DOUBLED = re.compile(r"\\\\(?=[A-Za-z])")
_MATH_IN_TEXT = re.compile(r"(?<!\\)\$([^$]+)(?<!\\)\$")
_ROUND_IN_TEXT = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]")
_QUANTITY_IN_TEXT = re.compile(r"^\\text\{\s*([-+]?\d[\d.,]*)\s+([A-Za-z][^{}]*)\}$")
_LETTER_IN_TEXT = re.compile(r"\\text\{\s*([ei])\s*\}|^\\text\{\s*([A-Za-z])\s*\}$")
_EXPONENT = re.compile(r"\^\s*(-\s*\d+|-\s*[A-Za-z]|\d*\.\d+|\d{2,}|\(-?\d+(?:/\d+)?\))(?![\d.])")
_FRACTION_ABOVE = re.compile(r"\^\s*(\\frac\{[^{}]*\}\{[^{}]*\})")
_ENTITY = re.compile(r"&(?:[a-z]{2,6}|#\d{1,5});")
_COMPARISONS = (("!=", "\\ne "), ("<=", "\\le "), (">=", "\\ge "))
_SPACES = re.compile(r"\s+")
_WRITTEN = re.compile(r"[A-Za-z\[\]]")


@functools.lru_cache(maxsize=4096)
def plain(answer: str) -> str:
    """The answer without its dress; the same answer when called again.

    Raises:
        Unreadable: it is too long or too deep, or nothing is left.
    """
    if _SIMPLE.fullmatch(answer):
        return answer
    if len(answer) > MAX_LENGTH:
        raise Unreadable(f"{len(answer)} characters, more than {MAX_LENGTH}")
    if _CONTROL.search(answer):
        raise Unreadable("control characters")
    _check_depth(answer)
    if "&" in answer:
        answer = _ENTITY.sub(lambda found: html.unescape(found[0]), answer)
    answer = _DOTS_IN_LIST.sub(r",\\ldots ", answer)
    text = _ONLY.sub("", _unwrapped(answer if answer.isascii() else _in_ascii(answer)))
    if "\\" in text or "~" in text or "*" in text or "{" in text:
        if "\\begin" not in text:
            text = _DOUBLED.sub(r"\\", text)
        for pattern, by in _REPLACED:
            text = pattern.sub(by, text)
        text = _SENTENCE_IN_TEXT.sub(r"\1", _NUMBER_IN_TEXT.sub(r" \1 ", text))
        text = _QUANTITY_IN_TEXT.sub(r"\1 \\text{\2}", text)
        text = _LETTER_IN_TEXT.sub(lambda found: f" {found[1] or found[2]} ", text)
    text = _ROUND_IN_TEXT.sub(lambda found: f" {found[1] or found[2]} ", text)
    if "$" in text:
        text = _MATH_IN_TEXT.sub(r" \1 ", text)
    if "^" in text:
        text = _EXPONENT.sub(r"^{\1}", text)
    if "=" in text:
        for written, command in _COMPARISONS:
            text = text.replace(written, command)
    if "sqrt" in text or "√" in text:
        text = _braced_roots(_ROOT.sub(_root, text))
    for name, pattern in _OF_TWO.items():
        if name in text:
            text = pattern.sub(lambda m: f"{m[1]}{{{m[2] or m[3] or ''}}}{{{m[4] or m[5] or ''}}}", text)
    if "\\frac" in text:
        text = _FRACTION_ABOVE.sub(r"^{\1}", text)
    text = _SPACES.sub(" ", _unwrapped(text))
    if _WRITTEN.search(text):
        text = _SPACES.sub(" ", spelled(text)).strip()
    if not text:
        raise Unreadable("nothing in it")
    return text


def _in_ascii(text: str) -> str:
    text = _RAISED.sub(lambda found: f"^{_braced(found[0])}", text)
    text = _LOWERED.sub(lambda found: f"_{_braced(found[0])}", text)
    return text.translate(_TRANSLATED)


def _braced(figures: str) -> str:
    level = figures.translate(_LEVEL)
    return level if len(level) == 1 else f"{{{level}}}"


def _root(found: re.Match[str]) -> str:
    what = found[1] or found[2]
    return "\\sqrt" if what is None else f"\\sqrt{{{what.strip('()')}}}"


def _unwrapped(text: str) -> str:
    before = None
    while text != before:
        before = text
        text = text.strip()
        if not _ENDS_WITH_DOTS.search(text):
            text = _END.sub("", text)
        if beginning := _BEGINNING.match(text):
            text = text[beginning.end() :]
        text = _BOLD.sub(r"\1", text)
        for opening, closing in _WRAPPINGS:
            inner = text[len(opening) : len(text) - len(closing)]
            if not (text.startswith(opening) and text.endswith(closing) and inner):
                continue
            if (opening != "{" and opening not in inner and not inner.endswith("\\")) or (
                opening == "{" and closed_at(text, 0) == len(text) - 1
            ):
                text = inner
    return text


def closed_at(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed, with whatever bracket; -1: nowhere."""
    depth = 0
    position = start
    while position < len(text):
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] not in ("{", "}"):
            position += 2
            continue
        if character == "\\":
            position += 1
            character = text[position]
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1


def _braced_roots(text: str) -> str:
    r"""`\sqrt(...)` with braces in place of the parentheses."""
    parts: list[str] = []
    closings: list[str] = []  # what each open parenthesis is closed with
    position = 0
    while position < len(text):
        if text.startswith(("\\sqrt(", "\\sqrt ("), position):
            position = text.index("(", position) + 1
            parts.append("\\sqrt{")
            closings.append("}")
            continue
        character = text[position]
        if character == "(":
            closings.append(")")
        elif character == ")" and closings:
            character = closings.pop()
        parts.append(character)
        position += 1
    return "".join(parts)


def _check_depth(text: str) -> None:
    depth = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth > MAX_DEPTH:
            raise Unreadable(f"brackets nested deeper than {MAX_DEPTH}")
