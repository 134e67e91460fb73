"""What the model is asked, and the form in which it should reply.

The model writes its reply from the first token on, `<think>` included: the prompt ends with the chat
template's generation prompt and opens nothing itself. (Logic-RL's prompt already ends with `<think>`; replies
to such a prompt are verified with ``think_opened=True``.)
"""

from __future__ import annotations

from rlad_core.tasks.knights_knaves.puzzle import Puzzle

FORMAT_INSTRUCTION = (
    "Reason first, then say who everyone is, in exactly this form: "
    "<think> your reasoning </think><answer> (1) Zoey is a knight\n(2) ... </answer>"
)
"""The system message, always the same."""


def messages(puzzle: Puzzle) -> list[dict[str, str]]:
    """The chat for a tokenizer's chat template: the instruction, then the puzzle."""
    return [
        {"role": "system", "content": FORMAT_INSTRUCTION},
        {"role": "user", "content": puzzle.text},
    ]


def reply(thinking: str, answer: str) -> str:
    """A whole reply in the asked-for form, as the model should generate it."""
    return f"<think> {thinking.strip()} </think><answer> {answer.strip()} </answer>"
