r"""Whether what stands around a box or a statement says that it is no answer.

not \boxed{5}, we reject \boxed{5}                  denied before it
the wrong answer is \boxed{5}                       likewise
\boxed{5} is wrong, \boxed{5} fails, \boxed{5}? No. denied behind it
suppose it is \boxed{5}, is it \boxed{5}?           supposed or asked, and so not said
"""

from __future__ import annotations

import re

DENIED = re.compile(
    r"(?:(?<![A-Za-z])(?:not|never|isn't|isn’t|cannot be|can't be|can’t be|rather than|instead of|wasn't"
    r"|aren't|wrong to (?:say|claim|answer|write)|doubt (?:that )?(?:it|the answer) is|neither"
    r"|(?:reject|discard|exclude|dismiss|eliminate|disprove|rule out|ruling out)(?:s|ed|ing)?)"
    r"|\\(?:neq?|not=?))"
    r"(?:\s+(?:equal(?: to)?|simply|just|be|the (?:final )?answer|(?:the )?(?:answer|value|case|option)))?"
    r"[\s$*:{(\\]*(?:\\[(\[])?\s*$",
    re.IGNORECASE,
)
"""How a text ends behind which an answer is denied."""

_NEAR = 60
"""Characters before and after a box that are looked at."""
_OPENS = r"[\s$*:{(\\]*(?:\\[(\[])?\s*$"
_ANSWER = r"(?:answer|result|value|guess|solution|conclusion|choice|number)s?"
_BAD = r"(?:wrong|incorrect|false|mistaken|erroneous|invalid|impossible)"
_WRONG_BEFORE = re.compile(
    rf"(?<![A-Za-z]){_BAD}\s+{_ANSWER}(?:\s+(?:of|is|are|was|would be|here is|to this is))?{_OPENS}",
    re.IGNORECASE,
)
_SUPPOSED = re.compile(
    r"(?<![A-Za-z])(?:if|suppose|supposing|assume|assuming|imagine|say)(?:\s+that)?"
    rf"\s+(?:it|this|that|(?:the|our|my)\s+(?:final\s+)?{_ANSWER})"
    rf"\s+(?:is|was|were|be|would be|equals|equaled|to be){_OPENS}",
    re.IGNORECASE,
)
_ASKED = re.compile(
    r"(?:^|[.!?;:\n])[\s$*]*(?:(?:so|then|but|hmm|wait|now|or|and),?\s+)*"
    r"(?:is|are|was|could|can|might|may|would|should|does|do|did|what if|how about|maybe|perhaps)\s"
    r"[^.!?\n]*$",
    re.IGNORECASE,
)
_QUESTION = re.compile(r"[\s$*)}\]\\]*\?")
_BEHIND = re.compile(
    r"[\s$*)}\]\\.,]*\?[\s$*]*(?:no|nope|wrong|never|impossible|not (?:quite|really|so))\b"
    r"|[\s$*)}\]\\.,]*\s(?:(?:,\s*)?(?:but|however,?|although|though|yet|and)\s+)?"
    r"(?:(?:that|this|it|which|the answer|that answer|this answer)\s+)?"
    r"(?:(?:is|was|would be|seems|looks|are)\s+(?:also\s+|clearly\s+|obviously\s+|certainly\s+)?"
    r"(?:wrong|incorrect|false|impossible|invalid|mistaken|rejected|excluded|extraneous|a contradiction"
    r"|too\s+(?:large|big|small|high|low|much|many|few)\b"
    r"|not\s+(?:the|a|an|correct|right|possible|valid|our|what|it)\b)"
    r"|(?:isn't|isn’t|wasn't|wasn’t)\s+(?:the|a|an|correct|right|possible|valid|our|what|it)\b"
    r"|(?:can't|can’t|cannot|couldn't)\s+(?:be\s+(?:right|correct|true|it|the|possible|valid)|work|hold)\b"
    r"|(?:doesn't|doesn’t|does not|didn't|did not|won't|will not)\s+(?:work|fit|hold|satisfy|match|check out)"
    r"\b|fails?\b(?!\s+to\s+(?:be|have))|(?:leads? to|gives?|yields?) a contradiction)",
    re.IGNORECASE,
)


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether the answer between two places of a text is denied, supposed or asked."""
    before, behind = text[max(0, start - _NEAR) : start], text[end : end + _NEAR]
    if any(pattern.search(before) for pattern in (DENIED, _WRONG_BEFORE, _SUPPOSED)):
        return True
    return bool(_BEHIND.match(behind) or (_QUESTION.match(behind) and _ASKED.search(before)))
