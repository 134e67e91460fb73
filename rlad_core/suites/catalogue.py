"""The suites: which sets of the hub they are, and what their test files are called there."""

import shlex
from dataclasses import dataclass
from typing import Final, Literal

_TEST: Final = ("data/test-*", "test-*", "test.*", "**/test-*", "**/test.*")
_ALL: Final = ("**/*",)


@dataclass(frozen=True)
class Suite:
    """One benchmark.

    Attributes:
        name: as ``--suite`` has it, and the subset that its problems are reported under.
        task: whose prompts and verdicts they are.
        repositories: data sets of the hub that have it; the first is the one that is fetched.
        files: patterns of its test files in such a data set, the first that fits counts.
        problems: how many it has as it was published; None: that differs from copy to copy.
    """

    name: str
    task: Literal["math", "knights_knaves"]
    repositories: tuple[str, ...]
    files: tuple[str, ...]
    problems: int | None = None

    def command(self, folder: str) -> str:
        """Fetches it into the folder that ``--data`` names."""
        local = shlex.quote(f"{folder.rstrip('/')}/{self.name}")
        return f"hf download {self.repositories[0]} --repo-type dataset --local-dir {local}"


_SUITES: Final = (
    # The sets of one year's problems have one split, whatever it is called.
    Suite(
        "aime24",
        "math",
        ("HuggingFaceH4/aime_2024", "Maxwell-Jia/AIME_2024", "math-ai/aime24"),
        _ALL,
        problems=30,
    ),
    Suite(
        "aime25",
        "math",
        ("MathArena/aime_2025", "opencompass/AIME2025", "math-ai/aime25", "yentinglin/aime_2025"),
        _ALL,
        problems=30,
    ),
    Suite("amc23", "math", ("math-ai/amc23", "zwhe99/amc23"), _ALL, problems=40),
    Suite("amc24", "math", ("rawsh/2024_AMC12",), _ALL),
    Suite("math500", "math", ("HuggingFaceH4/MATH-500", "math-ai/math500"), _TEST, problems=500),
    # The set has a second configuration, `socratic`, with the same questions.
    Suite("gsm8k", "math", ("openai/gsm8k",), ("main/test-*", *_TEST), problems=1319),
    Suite(
        "kk",
        "knights_knaves",
        ("K-and-K/knights-and-knaves",),
        ("test/people*", "**/test/people*", "**/*ppl/test.*", "people*", "**/*ppl*"),
    ),
)
SUITES: Final = {suite.name: suite for suite in _SUITES}
"""By name."""
