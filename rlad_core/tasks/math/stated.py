r"""Finds the answer of a reply without a box.

#### 73                                      the last such line, as GSM8K has it, where it is no heading
The answer is 73. **Answer:** $x = 73$       the last such statement, to the end of its sentence
**73**, $x = 73$, 73, (B), \[ 73 \]          a last line that is nothing but a formula, a number or a choice
So the total is $73$ dollars.                a last sentence that concludes (so, thus, hence, therefore, ...)

What is denied where it is stated is no answer, see `denials`: of several statements, the last that stands.
"""

from __future__ import annotations

import re

from rlad_core.tasks.math.denials import is_denied

_LINE_LENGTH = 200
_TEXT_LENGTH = 400
_TAIL_LENGTH, _BLOCK_LENGTH = 4000, 700
_HASHES = re.compile(r"^[ \t]*#{4}[ \t]?(?P<answer>[^\n]{1,200})$", re.MULTILINE)
_HEADING = re.compile(r"(?:\d+[.)][ \t]+)?[*_]*[A-Za-z]{2}")
"""How a line begins that titles what stands below it: Final Answer, **Step 4**, 2. Simplify."""
_STATEMENT = re.compile(
    r"\b(?:(?:answer|result)s?\b\**(?:[ \t]+(?:is|are|to be)\b|[ \t]*:)|answer\**(?=\s{1,3}(?:\$|\\[(\[]))"
    r"|(?:correct|right|best)[ \t]+(?:option|choice)\**(?:[ \t]+is\b|[ \t]*:)"
    r"|solutions?[ \t]+(?:is|are)\b(?=\s{1,3}[$\\\d]))[ \t:]*(?:equal to[ \t]+)?(?P<bold>\**)[ \t:]*",
    re.IGNORECASE,
)
_FORMULA = r"(?:\$\$[^$]{1,300}\$\$|\$[^$\n]{1,300}\$|\\\(.{1,300}?\\\)|\\\[(?s:.{1,300}?)\\\])"
_STATED = re.compile(
    r"\s{0,4}(?:"
    r"(?P<math>" + _FORMULA + r"(?:\s{0,2}(?:,|and|or|,\s?and|,\s?or)\s{1,2}" + _FORMULA + r"){0,9})"
    r"(?P<behind>[^\n.,;:!?$\\]{0,60})"
    r"|\*\*(?P<strong>[^*\n]{1,200})\*\*(?P<more>[^\n.,;:!?$\\*]{0,60})"
    r"|(?P<plain>[^\n]{1,200})"
    r")"
)
_PLAIN_END = re.compile(r"[.!?](?=\s|$|\*)|,\s+not\s|(?<=\S)\s+(?:because|since|which|as|so)\s")
_BEFORE_VALUE = re.compile(r"^.*[A-Za-z$]\s+is\s+(?:equal to\s+)?")
_NOT = re.compile(r"(?:not|never)\b", re.IGNORECASE)
_BARE_LINE = re.compile(
    r"\$\$(?P<a>[^$]{1,300})\$\$|\$(?P<b>[^$]{1,300})\$|\\\((?P<c>.{1,300}?)\\\)|\\\[(?P<d>(?s:.{1,300}?))\\\]"
    r"|\*\*(?P<e>[^*]{1,200})\*\*|(?P<f>[-+]?[\d.,/%$ ]*\d[\d.,/%$ ]*|\([-\d.,/ ]+\)|[A-Za-z] = [-\d.,/]+"
    r"|\(?[A-J]\)?)"
)
_CONCLUSION = re.compile(
    r"(?:.*[.!?]\s+)?(?:\*\*)?(?:so|thus|hence|therefore|consequently|in conclusion|finally)\b.*?"
    r"(?:\b(?:is|are|be|equals|equal to|totals|by)\s+|=\s*)(?:\*\*)?"
    r"(?P<answer>(?:\$[^$]{1,200}\$|\\\([^()]{1,200}\\\)|\$?[-+]?\d[\d.,/]*%?"
    r"|\([-\d., /]+\))(?:\*\*)?(?: ?[A-Za-z^²³%°]+){0,4})"
    r"(?:\*\*)?[.!](?:\*\*)?",
    re.IGNORECASE,
)
_LAST_BLOCK = re.compile(
    r"(?:^|\n)[ \t]*(?P<block>\\\[(?s:[^\\]|\\(?![\[\]])){1,300}\\\]|\$\$[^$]{1,300}\$\$)[ \t]*[.!]?$"
)


class NoAnswer(Exception):
    """The reply offers no answer; the message says why."""


def in_block(block: str) -> str:
    """The answer in an answer block: all of it, where that is one line.

    Raises:
        NoAnswer: it is longer and states none.
    """
    text = block.strip()
    if "\n" not in text and len(text) <= _TEXT_LENGTH:
        found = _STATEMENT.search(text)
        return stated(text) if found else text
    return stated(block)


def stated(reply: str) -> str:
    """The answer of a reply without a box.

    Raises:
        NoAnswer: it states none.
    """
    text = reply.rstrip()
    tail = text[-_TAIL_LENGTH:]
    if answer := _behind_hashes(tail) or _statement(tail):
        return answer
    line = text.rpartition("\n")[2].strip()
    before = len(text) - len(line)
    if 0 < len(line) <= _LINE_LENGTH and (bare := _BARE_LINE.fullmatch(line.rstrip(".!"))):
        if not is_denied(text, before, len(text)):
            return next(each for each in bare.groups() if each).strip()
    elif 0 < len(line) <= _TEXT_LENGTH and (concluded := _concluded(line)):
        return concluded
    end = tail[-_BLOCK_LENGTH:]
    if (block := _LAST_BLOCK.search(end)) and not is_denied(end, *block.span("block")):
        return block["block"].strip()
    raise NoAnswer("nothing in \\boxed{} and no answer stated at the end")


def _behind_hashes(text: str) -> str | None:
    """The last line that begins with ####, unless it titles what follows or is denied there."""
    found = _last(_HASHES, text)
    if found is None or is_denied(text, *found.span("answer")):
        return None
    answer = found["answer"].strip()
    is_heading = _HEADING.match(answer) and text[found.end() :].strip()
    return None if is_heading else answer


def _statement(text: str) -> str | None:
    """What the last sentence with "answer is" says, of those that are not denied."""
    for found in reversed(list(_STATEMENT.finditer(text))):
        stated = _STATED.match(text, found.end())
        if stated is None:
            return None
        kind = next(each for each in ("math", "strong", "plain") if stated[each])
        start, answer, ends = stated.start(kind), stated[kind], {stated.end(kind), stated.end()}
        if kind == "plain":
            if len(answer) == _LINE_LENGTH and text[stated.end() :][:1] not in ("", "\n"):
                return None
            answer = _PLAIN_END.split(answer, maxsplit=1)[0]
            ends = {start + len(answer)}
        if _NOT.match(answer) or any(is_denied(text, start, end) for end in ends):
            continue
        if kind == "plain":
            return _BEFORE_VALUE.sub("", answer).strip(" *") or None  # "the largest n is 34"
        return f"{answer} {(stated['behind'] or stated['more'] or '').strip()}".strip()
    return None


def _concluded(line: str) -> str | None:
    """What a last line says that draws a conclusion: "So the total is 18." """
    found = _CONCLUSION.fullmatch(line)
    if found is None or is_denied(line, *found.span("answer")):
        return None
    return found["answer"].strip(" *")


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for each in pattern.finditer(text):
        found = each
    return found
