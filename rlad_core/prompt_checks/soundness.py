"""What is asked by a prompt, and whether it is one, whatever task made it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Any

from rlad_core.tasks import Prompt


def digest_of(prompts: Iterable[Prompt]) -> str:
    """A hash of the ids and golds of prompts, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for prompt in prompts:
        digest.update(json.dumps([prompt.prompt_id, prompt.subset, prompt.gold]).encode())
    return digest.hexdigest()


def solutions_digest(prompts: Iterable[Prompt]) -> str:
    """A hash of the golds of prompts that have several; empty: none has."""
    golds = [[prompt.prompt_id, *prompt.golds] for prompt in prompts if len(prompt.golds) > 0]
    return hashlib.blake2b(json.dumps(golds).encode(), digest_size=16).hexdigest() if golds else ""


def problem_of(prompt: Prompt) -> str:
    """What is asked, to compare it across files and tasks: without system messages, case and white space."""
    said = " ".join(each["content"] for each in prompt.messages if each["role"] != "system")
    return re.sub(r"\s+", " ", said).strip().casefold()


def unsound(prompt: Any) -> str | None:
    """What is wrong with a prompt, whatever task made it; None: nothing."""
    if not isinstance(prompt, Prompt):
        return f"is no Prompt but a {type(prompt).__name__}"
    texts = (prompt.prompt_id, prompt.subset, prompt.gold, *prompt.golds)
    if not all(isinstance(text, str) for text in texts):
        return "has a prompt_id, subset or gold that is no text"
    if not isinstance(prompt.messages, list) or not prompt.messages:
        return "has no messages"
    for message in prompt.messages:
        if not isinstance(message, dict) or not all(
            isinstance(message.get(key), str) for key in ("role", "content")
        ):
            return f"has a message without role and content that are texts: {message!r:.60}"
    if not prompt.messages[-1]["content"].strip():
        return "has an empty last message"
    try:
        "".join([*texts, *(each["content"] for each in prompt.messages)]).encode()
    except UnicodeEncodeError:
        return "holds half a character (a lone surrogate)"
    return None


def answer_of(prompt: Prompt) -> str:
    """What prompts that ask the same must agree in."""
    return prompt.gold if prompt.answer is None else prompt.answer


def where(prompt: Prompt) -> str:
    """File and line of a prompt, or its id."""
    return getattr(prompt, "where", "") or f"prompt {getattr(prompt, 'prompt_id', '?')}"
