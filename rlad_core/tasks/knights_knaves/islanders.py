"""What an island calls those who tell the truth, and those who lie."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WORD = re.compile(r"[a-z]{1,40}")


@dataclass(frozen=True)
class Islanders:
    """Two words of an island, in lower case and without an article.

    Raises:
        ValueError: they are none, or equal.
    """

    truthful: str
    lying: str

    def __post_init__(self) -> None:
        words = (self.truthful, self.lying)
        if self.truthful == self.lying or not all(_WORD.fullmatch(word) for word in words):
            raise ValueError(
                f"{words} are no two words for islanders; write e.g. {(KNIGHTS.truthful, KNIGHTS.lying)}"
            )

    def role(self, truthful: bool) -> str:
        """The word for somebody who tells the truth, or lies."""
        return self.truthful if truthful else self.lying

    @property
    def flipped(self) -> Islanders:
        """The island where the words have changed places."""
        return Islanders(self.lying, self.truthful)

    @property
    def description(self) -> str:
        """The sentences that introduce the island. The plural is always made with an s, "heros" too."""
        return (
            f"A very special island is inhabited only by {self.truthful}s and {self.lying}s. "
            f"{self.truthful.capitalize()}s always tell the truth, and {self.lying}s always lie."
        )

    @property
    def question(self) -> str:
        """What a puzzle asks."""
        return f"So who is {a(self.truthful)} and who is {a(self.lying)}?"


def a(word: str) -> str:
    """A word with its article."""
    return f"{'an' if word[0] in 'aeiou' else 'a'} {word}"


KNIGHTS = Islanders("knight", "knave")
OTHERS = tuple(
    Islanders(*pair.split())
    for pair in (
        "pioneer laggard",
        "saint sinner",
        "hero villain",
        "angel devil",
        "altruist egoist",
        "sage fool",
    )
)
"""Those of the published puzzles whose words were exchanged (``random_pair``)."""
