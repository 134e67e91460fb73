r"""One spelling for what people write in several ways, after `notation` took the dress away.

0.\bar{3}, 0.\bar3; 0.\dot1\dot2         0.\overline{3}; 0.\overline{12}
204 \text{ (base 5)}                    204_{5}
{10 \choose 3}, _{10}C_3, C(10,3)       \binom{10}{3}
3 (mod 7), 3 mod 7, x \equiv 3 \bmod 7  3 \pmod{7}; 10 mod 7 is 3
sin x, \sin^2(x), \log_e 2, 2pi         \sin x, (\sin(x))^{2}, \ln 2, 2\pi
\sqrt[3]2, 2\hat{i}, 45^o               \sqrt[3]{2}, 2i, 45^\circ
]0,1], [0,1[                            (0,1], [0,1)
x \ne 0, \mathbb{R} - \{0\}             \mathbb{R}\setminus\{0\}
\begin{aligned} x &= 5 \end{aligned}    x = 5; so with cases where nothing is told apart by &
negative 5, \frac{\text{m}}{\text{s}}     -5, \text{m/s}
5\Omega, 5\,\mu\text{m}                 5 \text{ohm}, 5 \text{microm}
\text{(A), (C)}, \text{x = 7}           (A), (C) and x = 7
P(X = 1) = 5                            P(X\eq 1) = 5
"""

from __future__ import annotations

import re
from collections.abc import Callable

_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|ln|log|exp"
_WITHOUT_BACKSLASH = rf"(?<![A-Za-z\\{{])(?={_FUNCTIONS})(?=[a-z]+(?:\s*[\^(\d\\]|\s[A-Za-z]\b))"
_RELATIONS = str.maketrans({"=": r"\eq ", "<": r"\lt ", ">": r"\gt "})
_SPELLINGS: tuple[tuple[str, re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = tuple(
    (mark, re.compile(pattern), by)
    for mark, pattern, by in (
        (r"\bar", r"(?<=[\d.])\\bar\s*(?:\{(\d+)\}|(\d))", lambda m: f"\\overline{{{m[1] or m[2]}}}"),
        (
            r"\dot",
            r"(?<=[\d.])\\dot\s*\{?(\d)\}?(\d*)\\dot\s*\{?(\d)\}?",
            r"\\overline{\1\2\3}",
        ),
        (
            "base",
            r"^\(?([0-9A-F]+)\)?\s*_?\{?\s*(?:\\text\{)?[\s(]*(?:in )?base\s*"
            r"(?:\}\s*)?(\d{1,2}|[a-z]{3,7})[\s)}]*$",
            r"\1_{\2}",
        ),
        (r"\choose", r"\{?\s*(\d+)\s*\\choose\s*(\d+)\s*\}?", r"\\binom{\1}{\2}"),
        ("C", r"(?<![A-Za-z])C\(\s*(\d+)\s*,\s*(\d+)\s*\)", r"\\binom{\1}{\2}"),
        ("C", r"(?:\{\})?[\^_]\{?(\d+)\}?\s*C_\{?(\d+)\}?", r"\\binom{\1}{\2}"),
        ("C", r"(?<![A-Za-z}])C_\{?(\d+)\}?\^\{?(\d+)\}?", r"\\binom{\1}{\2}"),
        ("mod", r"\(\s*(?:\\text\{\s*)?\\?b?mod\s*\}?\s*(\d+)\s*\)$", r"\\pmod{\1}"),
        # A residue is less than its modulus: of more the remainder is meant.
        (
            "mod",
            r"^(\d{1,30})\s*(?:\\text\{\s*|\\b?|(?<=\s))mod\s*\}?\s*\{?(\d{1,30})\}?$",
            lambda m: m[0] if int(m[1]) < int(m[2]) or not int(m[2]) else str(int(m[1]) % int(m[2])),
        ),
        ("mod", r"(?:\\text\{\s*|\\b?|(?<=\s))mod\s*\}?\s*\{?(\d+)\}?$", r"\\pmod{\1}"),
        (r"\equiv", r"^\s*[A-Za-z](?:\([a-z]\))?\s*\\equiv(?![A-Za-z])\s*(?=-?\d)", ""),
        # The name of a probability: no side of the equation ends within it.
        (
            "=",
            r"(?<![A-Za-z])((?:\\Pr|P|\\mathbb\{P\})\s*)\(([^()]*)\)(?=\s*=)",
            lambda m: f"{m[1].strip()}({m[2].translate(_RELATIONS)})",
        ),
        # Each function has one of these letters.
        ("s", _WITHOUT_BACKSLASH, r"\\"),
        ("n", _WITHOUT_BACKSLASH, r"\\"),
        ("o", _WITHOUT_BACKSLASH, r"\\"),
        ("x", _WITHOUT_BACKSLASH, r"\\"),
        (r"\log_", r"\\log_\{?e\}?(?![A-Za-z])", r"\\ln"),
        (
            "^",
            r"\\(sin|cos|tan|cot|sec|csc|ln)\s*\^\s*\{?([2-9])\}?\s*\(([^()]*)\)",
            r"(\\\1(\3))^{\2}",
        ),
        ("pi", r"(?<![A-Za-z\\])pi(?![A-Za-z])", r"\\pi"),
        (r"\sqrt[", r"(\\sqrt\[[^\[\]]*\])\s*([0-9A-Za-z])", r"\1{\2}"),
        ("i", r"^(?:(?:minus|negative)\s+|\\text\{\s*(?:minus|negative)\s*\}\s*)(?=[\d\\])", "-"),
        (r"^{", r"\\text\{([A-Za-z /.]*[A-Za-z])\^\{(-?[1-4])\}\}", r"\\text{\1^\2}"),
        (
            r"\frac{\text",
            r"\\frac\{\\text\{([A-Za-z ]+)\}\}\{\\text\{([A-Za-z ]+(?:\^[1-4])?)\}(\^\{?[1-4]\}?)?\}",
            r"\\text{\1/\2}\3",
        ),
        (r"\text", r"^\\text\{\s*([A-Za-z])\s*=\s*(-?[\d./]+)\s*\}$", r"\1 = \2"),
        (
            r"\text",
            r"^\\text\{\s*(\(?[A-J]\)?(?:(?:\s*,\s*|\s+)(?:and\s+)?\(?[A-J]\)?)+)\s*\}$",
            r"\1",
        ),
        # Behind a number they are no variables: \mu alone and x\Omega may be.
        (
            r"\Omega",
            r"^([-+\d., /]*(?:\\frac\{\d+\}\{\d+\}|\d))\s*(?:\\text\{\s*([kM])\s*\}\s*)?\\Omega$",
            lambda m: f"{m[1]} \\text{{{m[2] or ''}ohm}}",
        ),
        (r"\mu", r"(?<=[\d}])\s*\\mu\s*\\text\{\s*([A-Za-z])\s*\}$", r" \\text{micro\1}"),
        (r"\hat", r"\\hat\s*\{?\s*\\?([ijk])(?:math)?(?![A-Za-z])\s*\}?", r" \1 "),
        (r"\vec", r"\\vec\s*\{?\s*\\?([ijk])(?:math)?(?![A-Za-z])\s*\}?", r" \1 "),
        ("^", r"(?<=\d)\s*\^\s*(?:o(?![A-Za-z])|\{\s*o\s*\})", r"^\\circ"),
        (r"\\[", r"\\\\\s*\[\s*[\d.]+\s*(?:pt|em|ex|mm|cm)\s*\]", r"\\\\"),
    )
)
_ALIGNED = re.compile(
    r"\\begin\{(aligned|align|align\*|gathered|split|equation\*?|cases(?=\}[^&]*$))\}(.*)\\end\{\1\}",
    re.DOTALL,
)
_TURNED = re.compile(r"(?P<opens>[\]\[])(?P<ends>[^\[\](){}]+,[^\[\](){}]+)(?P<closes>[\[\]])")
_EXCLUDED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(?:x\s*\\in\s*\\mathbb\s*\{?R\}?\s*,\s*)?[A-Za-z]\s*\\ne(?![A-Za-z])(?P<out>[^{}=<>]+)",
        r"\\\{\s*[A-Za-z]\s*(?:\\in\s*\\mathbb\s*\{?R\}?\s*)?(?:\\mid(?![A-Za-z])|\||:)"
        r"\s*[A-Za-z]\s*\\ne(?![A-Za-z])(?P<out>[^{}=<>]+)\\\}",
        r"\\mathbb\s*\{?R\}?\s*(?:-|\\backslash|\\setminus|\\smallsetminus)\s*\\\{(?P<out>[^{}]+)\\\}",
        r"(?:\\text\{\s*)?(?:all )?real(?: number)?s?,? except(?: for)?\s*\}?(?P<out>[^{}a-z]+)\}?",
    )
)


def spelled(text: str) -> str:
    """A text without its dress, in one spelling; the same text when called again."""
    if "\\begin" in text and (found := _ALIGNED.fullmatch(text)):
        text = found[2].replace("&", "").strip().removesuffix("\\\\").replace("\\\\", ", ")
    for mark, pattern, by in _SPELLINGS:
        if mark in text:
            text = pattern.sub(by, text)
    if text[-1:] in "[]" and (found := _TURNED.fullmatch(text)):
        opens, closes = "[" if found["opens"] == "[" else "(", "]" if found["closes"] == "]" else ")"
        return f"{opens}{found['ends']}{closes}"
    if "\\ne" in text or "\\mathbb" in text or "except" in text:
        for pattern in _EXCLUDED:
            if found := pattern.fullmatch(text.strip()):
                return f"\\mathbb{{R}}\\setminus\\{{{found['out'].strip()}\\}}"
    return text
