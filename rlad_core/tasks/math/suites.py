r"""Benchmarks of math problems, in the forms that their files have on the hub.

A problem is what stands in `problem`, `question` or `prompt` (a text, or messages); its answer is what
`reward_model.ground_truth` or `answer` says, of a worked solution what follows `####`; else the last box of
`solution`. Columns are known in any case (`Problem`, `Answer`). Numbers stay what they are: 27.0 is 27.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rlad_core.tasks.base import Prompt
from rlad_core.tasks.suite import ALL_FILES, TEST_FILES, Suite

_WHOLE = re.compile(r"([-+]?\d+)\.0+")


def prompt(row: Mapping[str, Any], subset: str) -> Prompt:
    """The prompt of one row.

    Raises:
        ValueError: it is no problem with one answer.
    """
    # Here, so that whoever only wants the names of suites does not load the task.
    from rlad_core.tasks.math.prompt import asking_for_a_box
    from rlad_core.tasks.math.published import MathProblem
    from rlad_core.tasks.math.task import prompt_for

    values = {name.casefold(): value for name, value in row.items() if value is not None}
    return prompt_for(MathProblem(asking_for_a_box(_asked(values)), _answer(values)), subset)


def _asked(row: Mapping[str, Any]) -> list[dict[str, str]]:
    for column in ("problem", "question", "prompt"):
        asked = row.get(column)
        if isinstance(asked, str) and asked.strip():
            return [{"role": "user", "content": asked.strip()}]
        if isinstance(asked, list) and asked:
            return [{"role": str(each["role"]), "content": str(each["content"])} for each in asked]
    raise ValueError(f"it has none of problem, question, prompt with a text; it has {', '.join(row)}")


def _answer(row: Mapping[str, Any]) -> str:
    judged = row.get("reward_model")
    answer = judged.get("ground_truth") if isinstance(judged, dict) else row.get("answer")
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    if answer is None and isinstance(row.get("solution"), str):
        answer = _last_box(row["solution"])
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError(f"it has no answer that is a text or a number; it has {', '.join(row)}")
    text = str(answer).rpartition("####")[2].strip()
    if not text or text.casefold() in ("nan", "none"):
        raise ValueError(f"its answer is {answer!r}")
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def _last_box(solution: str) -> str | None:
    from rlad_core.tasks.math.extract import find_boxes

    filled = [content.strip() for content in find_boxes(solution).contents if content.strip()]
    return filled[-1] if filled else None


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
    Suite("gsm8k", ("openai/gsm8k",), ("main/test-*", *TEST_FILES), prompt, problems=1319),
)
