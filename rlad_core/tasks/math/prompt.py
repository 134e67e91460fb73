"""What the model is asked: the problem, and to put the answer into a box."""

from __future__ import annotations

from collections.abc import Sequence

INSTRUCTION = "Reason step by step, and put the final answer within \\boxed{}."


def asking_for_a_box(messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    r"""The chat, with `INSTRUCTION` at its end unless one of its messages already speaks of `\boxed`.

    Published rows differ: some bring an instruction of their own, others are the bare problem. The verifier
    reads a box, so every prompt asks for one.
    """
    chat = [dict(message) for message in messages]
    if not any("\\boxed" in message["content"] for message in chat):
        chat[-1]["content"] = f"{chat[-1]['content'].rstrip()}\n{INSTRUCTION}"
    return chat
