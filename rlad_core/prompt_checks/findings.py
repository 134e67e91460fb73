"""What a check of prompts finds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rlad_core.prompt_stream import Selection

Use = Literal["training", "evaluation"]
Progress = Callable[[str, int, int], None]
"""Told what is looked at, how many of how many are done."""


def silent(what: str, done: int, total: int) -> None:
    """Told nothing."""


@dataclass(frozen=True)
class Dropped:
    """Something of the data that is not used.

    where: file and line, or the prompt's id where it has none.
    prompt_id: None: it is no prompt at all.
    solution: of a prompt that is used, with others than this worked solution, see `solution_id`.
    """

    where: str
    use: Use
    subset: str
    reason: str
    prompt_id: str | None = None
    solution: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


@dataclass
class Checked:
    """What the check found.

    training, held_out: prompts that are used; each problem that is trained on counts once.
    longest: tokens of the longest of them. shortened: how many lose their beginning. unknown: in how many the
        policy's tokenizer has put its unknown token, in place of words that it has no tokens for.
    dropped: what is not used, training first. digest: of what is used, see `digest_of`.
    unfit: worked solutions that are not used, of prompts that are.
    solutions: a hash of the worked solutions of prompts that have several; empty where none has, or no stage
        trains on them.
    """

    training: int = 0
    held_out: int = 0
    longest: int = 0
    shortened: int = 0
    unknown: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    digest: str = ""
    unfit: list[Dropped] = field(default_factory=list)
    solutions: str = ""
    selection: Selection = field(default_factory=Selection)


def counted(prompts: int) -> str:
    """So many prompts, in words."""
    return f"{prompts:,} prompt{'' if prompts == 1 else 's'}"


def nothing_left(parts: Iterable[str], dropped: Sequence[Dropped]) -> PromptsRefusedError:
    """The refusal of parts of which nothing can be used, with the reason that most of their prompts have.

    Args:
        parts: use, task and subset of each.
        dropped: all that is not used.
    """
    said = f"no prompt can be used of: {'; '.join(dict.fromkeys(parts))}"
    alike: dict[str, list[Dropped]] = {}
    for each in dropped:
        kind = re.sub(r"\d+", "0", each.reason)  # a prompt has its own number of tokens
        alike.setdefault(kind, []).append(each)
    if alike:
        most = max(alike.values(), key=len)
        said += f". Why, {len(most):,} times of {len(dropped):,}: {most[0]}"
    return PromptsRefusedError(said, dropped)


class PromptsRefusedError(ValueError):
    """A run cannot or, by its recipe, must not start with these prompts.

    dropped: all that is wrong with them, as far as it was found.
    """

    def __init__(self, message: str, dropped: Sequence[Dropped] = ()) -> None:
        super().__init__(message)
        self.dropped = tuple(dropped)

    def __reduce__(self) -> tuple[type[PromptsRefusedError], tuple[str, tuple[Dropped, ...]]]:
        """To another process with all of it."""
        return type(self), (str(self), self.dropped)
