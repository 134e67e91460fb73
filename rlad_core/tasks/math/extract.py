r"""Finds the answers that a reply offers. Any text is an input; the time is linear in its length.

a reply with <think> ... </think>            only what follows the last </think> is the reply
<think> that is never closed                 no answer: it was cut off while thinking
<answer> ... </answer>                       only what stands in the last one is the reply
\boxed{...}, \fbox{...}, \boxed(...)         an answer; braces inside it may nest as deep as they like
\boxed 5                                     an answer if it begins with a digit; up to a blank or brace
\boxed{}, \boxed{\text{final answer}}        not read: the reply repeats what it was asked to do
"not \boxed{5}", "\boxed{5} is wrong"        not read: that is no answer, see `denials`
a box inside a box                           belongs to the outer one
a box that is never closed                   no answer; if it is the last box, the reply offers none
a sentence with the last box that breaks     no answer: it was cut off. "\boxed{5} and so we should" ends so,
off                                          "\boxed{5} dollars" does not
no box                                       what it states otherwise, see `stated`
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rlad_core.tasks.math.denials import is_denied
from rlad_core.tasks.math.stated import NoAnswer, in_block, stated

__all__ = ["Box", "Boxes", "NoAnswer", "Offered", "find_boxes", "offered", "without_boxes"]

# Every alternative begins with a character that the others cannot continue from, and repeats nothing without
# bounds but the blanks after a box, so that one pass over the text is enough.
_TOKEN = re.compile(
    r"(?P<box>\\{1,2}(?:boxed|fbox|framebox)(?![A-Za-z])\s*"
    r"(?:(?P<opens>\{)|\((?P<round>[^(){}\\]{1,40})\)|(?P<bare>[-+]?\d[^\s{}$\\]{0,40})))"
    r"|(?P<escaped>\\[\\{}])"
    r"|(?P<brace>[{}])"
)
_BOX_COMMAND = re.compile(r"\\{1,2}(?:boxed|fbox|framebox)(?![A-Za-z])")
_PLACEHOLDER = re.compile(
    r"(?:[\s.…_?$]|\\_)*|\\[lc]?dots|\\square|\\ldots|\\phantom\s*\{.*\}"
    r"|(?:\\text\w*\s*\{)?\s*(?:(?:your|the|my|final|insert|put|numerical|correct)\s+)*"
    r"(?:final\s+)?(?:answers?|result|solution|value|number)(?:\s+here)?\s*[.:]?\s*\}?",
    re.IGNORECASE | re.DOTALL,
)
_LIST_GAP = re.compile(
    r"(?:[\s$,;&(/]|\\[()\[\],;:! ]|\\q?quad|\\text\s*\{\s*,?\s*(?:and|or)?\s*\}|\\\\"
    r"|\\(?:lor|vee)(?![A-Za-z])|(?<![A-Za-z])(?:and|or|alternatively|maybe|perhaps|possibly)(?![A-Za-z])|\*\*)*"
)
_NEXT_NAME = re.compile(r"[\s$.,;]*(?:\\[()\[\]]\s*)*[A-Za-z](?:_\{?\w\}?)?\s*=\s*(?:\\[()\[\]]|[\s$])*")
"""Between x = \\boxed{1} and y = \\boxed{2}."""
_LINKED = re.compile(r"[,;&/]|\\(?:lor|vee)|(?<![A-Za-z])(?:and|or|alternatively)(?![A-Za-z])")
_CORRECTED = re.compile(
    r"\b(?:no|not|wait|but|so|then|actually|thus|hence|therefore|instead|finally|correct\w*|mistake|gives?"
    r"|because|since|which)\b",
    re.IGNORECASE,
)
_GAP_LENGTH = 80
_UNIT = re.compile(
    r"(?:[\s$*~}]|\\[,;: ])*(?:\\(?:text|mathrm)\{\s*)?"
    r"(?P<unit>[A-Za-z]{1,12}(?:\^\{?[23]\}?|[²³])?)\s*\}?[\s$*]*(?=[.,;:!)\n\\]|$)"
)
_SENTENCE_END = re.compile(r"[.!?:](?=[\s$*\\)}\]\"']|$)|\n\s*\n|\n\s*[\[\]#*\-\\<]|\\[\])]\s*\n")
_CLOSES = re.compile(r"(?:[\s$*)}\]`.!?;:,>\"'_]|\\[)\]]|\\end\{[^{}]*\}|</\w+>|<\|[^|]*\|>)*$")
_WORDS = re.compile(r"[A-Za-z']{2,}")
_CUT_OFF_WORDS = 4

_THOUGHTS = re.compile(
    r"<(?P<end>/)?(?:think|thinking|thought|thoughts|reasoning)>|<\|(?P<kind>begin|end)_of_thought\|>"
)
_END_TOKEN = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|end_of_text|eom_id|end|return)\|>|</s>|<｜end▁of▁sentence｜>|<end_of_turn>|<eos>"
)
_ANSWER = re.compile(r"<answer>|</answer>", re.IGNORECASE)


@dataclass(frozen=True)
class Box:
    """What a box holds, and where it begins and ends in the text."""

    content: str
    start: int
    end: int


@dataclass(frozen=True)
class Boxes:
    """The boxes of a text: what the closed ones hold, in order, and whether the last one is open."""

    contents: list[str]
    last_is_open: bool
    places: list[Box] = field(default_factory=list)


@dataclass(frozen=True)
class Offered:
    """What a reply offers.

    answers: in their order, at least one, the same text perhaps several times.
    run: the last boxes that follow each other closely; a list, if the gold answer is one.
    listed: nothing but commas, "and" and "or" stand between the boxes of the run.
    unit: what stands behind the last box up to the end of its clause, where that is one word: perhaps a unit.
    """

    answers: list[str]
    run: list[str]
    listed: bool
    unit: str = ""


def offered(response: str) -> Offered:
    """The answers of a reply.

    Raises:
        NoAnswer: there is none.
    """
    reply = _after_thinking(_until_its_end(response))
    block = _answer_block(reply)
    text = reply if block is None else block
    boxes = find_boxes(text)
    if boxes.last_is_open:
        raise NoAnswer("the last box is not closed")
    filled = [box for box in boxes.places if not _PLACEHOLDER.fullmatch(box.content.strip())]
    meant = [box for box in filled if not is_denied(text, box.start, box.end)]
    if meant:
        if meant[-1] is filled[-1] and block is None and _is_cut_off(text[meant[-1].end :]):
            raise NoAnswer("the reply breaks off in the sentence of its last box")
        run, listed = _run(text, meant)
        behind = _UNIT.match(text, meant[-1].end)
        return Offered([box.content.strip() for box in meant], run, listed, behind["unit"] if behind else "")
    if filled:
        raise NoAnswer("what is in a box is said not to be the answer")
    answer = stated(text) if block is None else in_block(text)
    if not answer:
        raise NoAnswer("where the answer should stand, there is nothing")
    return Offered([answer], [answer], False)


def find_boxes(text: str) -> Boxes:
    """The outermost closed boxes of a text."""
    closed: list[Box] = []
    open_braces: list[tuple[int, int] | None] = []  # of a box: where it and its content begin
    last_box = -1
    for token in _TOKEN.finditer(text):
        if token["box"]:
            last_box = token.start()
            if token["opens"]:
                open_braces.append((token.start(), token.end()))
            else:
                closed.append(
                    Box(token["round"] or token["bare"].rstrip(".,;:!?"), token.start(), token.end())
                )
        elif token["brace"] == "{":
            open_braces.append(None)
        elif token["brace"] == "}" and open_braces:
            box = open_braces.pop()
            if box is not None:
                start, content = box
                while closed and closed[-1].start > start:
                    closed.pop()  # it lies inside this one
                closed.append(Box(text[content : token.start()], start, token.end()))
    last_is_open = any(box is not None and box[0] == last_box for box in open_braces)
    places = [Box(without_boxes(box.content), box.start, box.end) for box in closed]
    return Boxes([box.content for box in places], last_is_open, places)


def without_boxes(text: str) -> str:
    r"""The text without its box commands: `\boxed{5}` becomes `{5}`."""
    return _BOX_COMMAND.sub("", text) if "box" in text else text


def _until_its_end(response: str) -> str:
    """Without an end token that was left in, and what another turn of the chat says."""
    found = _END_TOKEN.search(response) if "<" in response else None
    return response if found is None else response[: found.start()]


def _after_thinking(response: str) -> str:
    if "<" not in response:
        return response
    begin, opened = 0, False
    for found in _THOUGHTS.finditer(response):
        if found["end"] or found["kind"] == "end":
            begin, opened = found.end(), False
        else:
            opened = True
    if opened:
        raise NoAnswer("<think> is not closed")
    return response[begin:]


def _answer_block(reply: str) -> str | None:
    """What stands in the last closed answer block."""
    if "<" not in reply:
        return None
    block, begin = None, -1
    for found in _ANSWER.finditer(reply):
        if found[0][1] != "/":
            begin = found.end()
        elif begin >= 0:
            block, begin = reply[begin : found.start()], -1
    return block if block is not None and block.strip() else None


def _is_cut_off(behind: str) -> bool:
    """Whether the sentence that a box stands in goes on and never ends."""
    behind = behind[:2000]
    if _SENTENCE_END.search(behind) or _CLOSES.fullmatch(behind):
        return False
    words = _WORDS.findall(behind)
    return len(words) >= _CUT_OFF_WORDS and words[0].lower() not in (
        "is",
        "are",
        "as",
        "for",
        "in",
        "of",
        "per",
    )


def _run(text: str, boxes: list[Box]) -> tuple[list[str], bool]:
    run, listed = [boxes[-1].content.strip()], True
    for earlier, later in zip(boxes[-2::-1], boxes[:0:-1], strict=True):
        gap = text[earlier.end : later.start]
        if len(gap) > _GAP_LENGTH:
            break
        if _NEXT_NAME.fullmatch(gap):
            listed = False
        elif _LIST_GAP.fullmatch(gap):
            listed = listed and bool(_LINKED.search(gap))
        elif _LINKED.search(gap) and not _CORRECTED.search(gap):
            listed = False
        else:
            break
        run.insert(0, earlier.content.strip())
    return run, listed and len(run) > 1
