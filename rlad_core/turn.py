r"""The model's turn: what the prompt had already written of it, and what the model wrote.

Some chat templates begin the turn themselves. Their generation prompt ends with ``<think>`` (R1-Distill,
Qwen3-Thinking, the prompts of Logic-RL), or with a block of thoughts that is closed already (Qwen3 without
thinking: ``<think>\n\n</think>\n\n``). The model's response is then the rest of a turn, and by itself says
neither that it begins in thoughts nor that it has none. So every verifier gets the turn: ``opened`` and the
response, joined.
"""

from __future__ import annotations

import re

_THINK, _THOUGHT = "<think>", "</think>"
# Thoughts that a template closes are empty or a sentence, "I have finished thinking" for instance.
_LONGEST = 1000
_OPENED = re.compile(r"<think>(?:\s*|[^<]*</think>\s*)\Z")


def opened_by(prompt: str) -> str:
    r"""What a prompt has written of the model's turn: ``"<think>\n"``, an empty block of thoughts, or "".

    Only what stands at the very end counts: a tag in what a user says has the template's marks behind it.

    Args:
        prompt: as the model reads it, the chat template's generation prompt included; its end is enough.
    """
    found = _OPENED.search(prompt, max(0, len(prompt) - _LONGEST))
    return found[0] if found else ""


def without_opening(response: str, opened: str) -> str:
    """A response without its beginning where that repeats what the prompt has written of the turn already.

    Whole turns do so, such as those that `rlad generate` writes: behind the prompt they would open thoughts
    twice. Blanks may differ; what the prompt does not have is the response's own. Unlike `rest_of` it takes
    what may have begun behind the prompt's end already, or was cut off in its thoughts.
    """
    if not opened:
        return response
    if response.startswith(opened):
        return response.removeprefix(opened)
    repeated = r"\s*" + r"\s*".join(map(re.escape, opened.split())) + r"\s*"
    return re.sub(rf"\A{repeated}", "", response)


def rest_of(turn: str, opened: str) -> str:
    """What is left to write of a turn where the prompt has opened it: ``opened`` and it make the turn.

    A whole turn has thoughts of its own, or none: those of the prompt take their place, and thoughts that the
    prompt opened and nobody has are closed.
    """
    if not opened:
        return turn
    thoughts, closing, reply = turn.partition(_THOUGHT)
    has_thoughts = bool(closing) and thoughts.lstrip().startswith(_THINK)
    if _THOUGHT in opened:
        return reply.lstrip() if has_thoughts else turn
    return turn.lstrip().removeprefix(_THINK).lstrip() if has_thoughts else f"{_THOUGHT}\n\n{turn}"
