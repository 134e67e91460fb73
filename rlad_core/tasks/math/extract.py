r"""Finds the answers that a reply offers. Any text is an input; the time is linear in its length.

a reply with <think> ... </think>            only what follows the last </think> is the reply
<think> that is never closed                 no answer: it was cut off while thinking
\boxed{...}, \fbox{...}                      an answer; braces inside it may nest as deep as they like
\boxed 5                                     an answer if it begins with a digit; up to a blank or brace
\boxed{} with nothing in it                  not read: the reply repeats what it was asked to do
a box inside a box                           belongs to the outer one
a box that is never closed                   no answer; if it is the last box, the reply offers none
no box, and the last line is "**73**",       that is the answer. Whoever was trained on other data says
"#### 73" or "The answer is 73."             it like this; the last line alone counts, and only as a whole
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# Every alternative begins with a character that the others cannot continue from, and repeats nothing without
# bounds but the blanks after a box, so that one pass over the text is enough.
_TOKEN = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox)(?![A-Za-z])\s*(?:(?P<opens>\{)|(?P<bare>[-+]?\d[^\s{}$\\]{0,40})))"
    r"|(?P<escaped>\\[\\{}])"
    r"|(?P<brace>[{}])"
)
_BOX_COMMAND = re.compile(r"\\{1,2}(?:boxed|fbox)(?![A-Za-z])")

_LINE_LENGTH = 200
_STATEMENTS = (
    re.compile(r"#{4} ?(?P<answer>.+)"),
    re.compile(r"\*\*(?P<answer>[^*]+)\*\*[.!]?"),
    # The greedy beginning makes the last "answer is" of the line count.
    re.compile(r".*\banswer\**(?: is|:)\**:? ?(?P<answer>.+)", re.IGNORECASE),
)


class NoAnswer(Exception):
    """The reply offers no answer; the message says why."""


@dataclass(frozen=True)
class Boxes:
    """The boxes of a text: what the closed ones hold, in order, and whether the last one is open."""

    contents: list[str]
    last_is_open: bool


def offered(response: str) -> list[str]:
    """The answers of a reply in their order, at least one, the same text perhaps several times.

    Raises:
        NoAnswer: there is none.
    """
    reply = _after_thinking(response)
    boxes = find_boxes(reply)
    if boxes.last_is_open:
        raise NoAnswer("the last box is not closed")
    filled = [content.strip() for content in boxes.contents if content.strip()]
    if filled:
        return filled
    return [_last_line_answer(reply)]


def find_boxes(text: str) -> Boxes:
    """The outermost closed boxes of a text."""
    closed: list[tuple[int, str]] = []
    open_braces: list[tuple[int, int] | None] = []  # of a box: where it and its content begin
    last_box = -1
    for token in _TOKEN.finditer(text):
        if token["box"]:
            last_box = token.start()
            if token["opens"]:
                open_braces.append((token.start(), token.end()))
            else:
                closed.append((token.start(), token["bare"].rstrip(".,;:!?")))
        elif token["brace"] == "{":
            open_braces.append(None)
        elif token["brace"] == "}" and open_braces:
            box = open_braces.pop()
            if box is not None:
                start, content = box
                while closed and closed[-1][0] > start:
                    closed.pop()  # it lies inside this one
                closed.append((start, text[content : token.start()]))
    last_is_open = any(box is not None and box[0] == last_box for box in open_braces)
    return Boxes([without_boxes(content) for _, content in closed], last_is_open)


def without_boxes(text: str) -> str:
    r"""The text without its box commands: `\boxed{5}` becomes `{5}`."""
    return _BOX_COMMAND.sub("", text)


def _after_thinking(response: str) -> str:
    _, closing, reply = response.rpartition("</think>")
    if "<think>" in reply:
        raise NoAnswer("<think> is not closed")
    return reply if closing else response


def _last_line_answer(reply: str) -> str:
    line = reply.rstrip().rpartition("\n")[2].strip()
    if 0 < len(line) <= _LINE_LENGTH:
        for statement in _STATEMENTS:
            match = statement.fullmatch(line)
            if match:
                return match["answer"].strip()
    raise NoAnswer("nothing in \\boxed{} and no answer on the last line")
