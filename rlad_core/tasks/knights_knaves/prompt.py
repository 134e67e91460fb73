"""What the model is asked, and the form in which it should reply.

The prompt opens nothing of the reply itself. Where a chat template does, verifiers see it: `rlad_core.turn`.
"""

from __future__ import annotations

from rlad_core.tasks.knights_knaves.islanders import KNIGHTS, Islanders, a
from rlad_core.tasks.knights_knaves.puzzle import Puzzle

FORMAT_INSTRUCTION = (
    "Reason first, then say who everyone is, in exactly this form: "
    "<think> your reasoning </think><answer> (1) Zoey is a knight\n(2) ... </answer>"
)
"""The system message, always the same about knights and knaves."""


def messages(puzzle: Puzzle) -> list[dict[str, str]]:
    """The chat for a tokenizer's chat template: the instruction in the island's words, then the puzzle."""
    words = puzzle.islanders
    shown = FORMAT_INSTRUCTION if KNIGHTS in (words, words.flipped) else _in_words_of(words)
    return [
        {"role": "system", "content": shown},
        {"role": "user", "content": puzzle.text},
    ]


def _in_words_of(islanders: Islanders) -> str:
    return FORMAT_INSTRUCTION.replace(a(KNIGHTS.truthful), a(islanders.truthful))


def reply(thinking: str, answer: str) -> str:
    """A whole reply in the asked-for form, as the model should generate it."""
    return f"<think> {thinking.strip()} </think><answer> {answer.strip()} </answer>"
