"""Benchmarks of math problems, as their files on the hub have them; `published` reads their rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rlad_core.tasks.base import Prompt
from rlad_core.tasks.suite import ALL_FILES, TEST_FILES, Suite


def prompt(row: Mapping[str, Any], subset: str) -> Prompt:
    """The prompt of one row.

    Raises:
        ValueError: it is no problem with one answer.
    """
    # Here, so that whoever only wants the names of suites does not load the task.
    from rlad_core.tasks.math.published import ProblemReader
    from rlad_core.tasks.math.task import prompt_for

    return prompt_for(ProblemReader().problem(row), subset)


SUITES = (
    Suite(
        "aime24",
        ("HuggingFaceH4/aime_2024", "Maxwell-Jia/AIME_2024", "math-ai/aime24"),
        ALL_FILES,
        prompt,
        problems=30,
    ),
    Suite(
        "aime25",
        ("MathArena/aime_2025", "opencompass/AIME2025", "math-ai/aime25", "yentinglin/aime_2025"),
        ALL_FILES,
        prompt,
        problems=30,
    ),
    Suite("amc23", ("math-ai/amc23", "zwhe99/amc23"), ALL_FILES, prompt, problems=40),
    Suite("amc24", ("rawsh/2024_AMC12",), ALL_FILES, prompt),
    Suite("math500", ("HuggingFaceH4/MATH-500", "math-ai/math500"), TEST_FILES, prompt, problems=500),
    # The set has a second configuration, `socratic`, with the same questions.
    Suite("gsm8k", ("openai/gsm8k",), ("main/test-*", "main/test/*", *TEST_FILES), prompt, problems=1319),
)
