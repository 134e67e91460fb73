r"""Whether what stands around a box or a statement says that it is no answer.

not \boxed{5}, we reject \boxed{5}                  denied before it
the wrong answer is \boxed{5}                       likewise
\boxed{5} is wrong, \boxed{5} fails, \boxed{5}? No. denied behind it
suppose it is \boxed{5}, is it \boxed{5}?           supposed or asked, and so not said
\boxed{5}. It is impossible to do better.         a remark, which denies nothing
the incorrect number is \boxed{5}                 what was asked for
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
_SAYS = r"(?:\s+(?:of|is|are|was|would be|here is|to this is))?"
_BAD = r"(?:wrong|incorrect|false|mistaken|erroneous|invalid|impossible)"
_WRONG_BEFORE = re.compile(
    # "The incorrect number" is what some problem asks for; an incorrect number is not.
    rf"(?<![A-Za-z])(?<!\bthe ){_BAD}\s+{_ANSWER}{_SAYS}{_OPENS}"
    rf"|(?<![A-Za-z]){_BAD}\s+(?:answer|result|guess|solution|conclusion)s?{_SAYS}{_OPENS}",
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
_RIGHT = r"(?:right(?!\s+(?:tri)?angle)|correct|true|valid|possible|admissible|acceptable)\b(?!-)"
_SOUGHT = (
    r"(?:(?:the|an?|our)\s+(?:(?:final|correct|right|valid|true|actual|real|desired|required|requested|wanted"
    r"|possible|acceptable|admissible|whole|full|complete)\s+){0,2}(?:answer|solution|result|one)\b"
    rf"|(?:the|an?)\s+{_RIGHT}|{_RIGHT}|it\b|what\b(?![^.\n]*\bexpect))"
)
"""What an answer is said not to be; with other nouns it may be a remark: "which is not a prime number"."""
_REMARK = (
    # Its "it" is no answer.
    r"(?:it(?:['’]s|\s+(?:is|was|would be|isn['’]t|wasn['’]t|cannot be|can['’]t be))"
    r"\s+(?:[a-z]+\s+){1,2}(?:to|for|that)\b"
    r"|(?:it|this|that|which)\s[a-z\s'’]*\b(?:hold|work|fit|match|fail)s?\s+(?:for|if|when|unless)\b)"
)
"""It is impossible to do better; it does not hold for n = 4."""
_CONNECTED = (
    r"(?:(?:but|however|although|though|yet|and|no|wait|hmm|oh|oops|actually)[,.!]*\s+){0,3}"  # No, wait, ...
)
_NAMED = r"(?:that|this|it|(?:the|that|this) answer)"
_WHICH = rf"(?:(?:which|{_NAMED})\s+)?"
_SURELY = r"\s+(?:(?:also|clearly|obviously|certainly|definitely|simply|just)\s+)?"
_IS = rf"(?:(?:it|that)['’]s|{_WHICH}(?:is|was|would be|seems|looks|are)){_SURELY}"
_BEHIND = re.compile(
    r"[\s$*)}\]\\.,]*\?[\s$*]*(?:no|nope|wrong|never|impossible|not (?:quite|really|so))\b"
    rf"|[\s$*)}}\]\\.,;!]*\s(?:,\s*)?{_CONNECTED}(?!{_REMARK})(?:"
    rf"{_IS}(?:wrong|incorrect|impossible|invalid|mistaken|rejected|excluded|extraneous|a contradiction)\b"
    rf"|{_IS}(?:too\s+(?:large|big|small|high|low|much|many|few)\b|not\s+{_SOUGHT})"
    # "\boxed{B} is false" may be what was asked of a statement.
    rf"|(?:(?:it|that)['’]s|{_NAMED}\s+(?:is|was)){_SURELY}false\b"
    rf"|{_WHICH}(?:isn['’]t|wasn['’]t)\s+{_SOUGHT}"
    rf"|{_WHICH}(?:can['’]t|cannot|couldn['’]t)\s+(?:be\s+{_SOUGHT}|work\b|hold\b)"
    rf"|{_WHICH}(?:(?:does|did|wo)n['’]t|(?:does|did|will) not)\s+(?:work|fit|hold|satisfy|match|check out)\b"
    rf"|{_WHICH}(?:fails?\b(?!\s+to\s+(?:be|have))|(?:leads? to|gives?|yields?) a contradiction))",
    re.IGNORECASE,
)


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether the answer between two places of a text is denied, supposed or asked."""
    before, behind = text[max(0, start - _NEAR) : start], text[end : end + _NEAR]
    if any(pattern.search(before) for pattern in (DENIED, _WRONG_BEFORE, _SUPPOSED)):
        return True
    return bool(_BEHIND.match(behind) or (_QUESTION.match(behind) and _ASKED.search(before)))
