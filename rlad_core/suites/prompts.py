r"""The prompts of suites, from files as the hub has them.

A math problem is what stands in `problem`, `question` or `prompt` (a text, or messages); its answer is what
`reward_model.ground_truth` or `answer` says, of a worked solution what follows `####`; else the last box of
`solution`. Columns are known in any case (`Problem`, `Answer`). Numbers stay what they are: 27.0 is 27.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rlad_core import data
from rlad_core.suites.catalogue import SUITES, Suite
from rlad_core.suites.files import find
from rlad_core.tasks import Prompt
from rlad_core.tasks.base import prompt_id
from rlad_core.tasks.knights_knaves import published as puzzles
from rlad_core.tasks.knights_knaves.task import prompt_for as puzzle_prompt
from rlad_core.tasks.math.extract import find_boxes
from rlad_core.tasks.math.prompt import asking_for_a_box
from rlad_core.tasks.math.published import MathProblem

_WHOLE = re.compile(r"([-+]?\d+)\.0+")


class SuiteError(ValueError):
    """A suite that there is not, or whose files are not here or not its own; says what to do."""


@dataclass(frozen=True)
class SuitePrompts:
    """What is asked.

    prompts: suite by suite; of each subset every problem once.
    remarks: what a person should know of the files, one sentence each.
    """

    prompts: list[Prompt]
    remarks: list[str] = field(default_factory=list)


def suite_prompts(names: Sequence[str], folder: Path, *, count: int | None = None) -> SuitePrompts:
    """The prompts of suites.

    Args:
        folder: where the files are, see `find`.
        count: so many problems of each subset, always the same ones; None: all.

    Raises:
        SuiteError: names every suite that is unknown or missing, these with the command that fetches it; or
            a row that is none of the suite, with its file.
        OSError: a file cannot be read.
    """
    if unknown := [name for name in names if name not in SUITES]:
        raise SuiteError(f"there is no suite {', '.join(unknown)}; there is {', '.join(SUITES)}")
    files = {name: find(SUITES[name], folder) for name in dict.fromkeys(names)}
    if missing := [name for name, found in files.items() if not found]:
        commands = "\n".join(f"  {SUITES[name].command(str(folder))}" for name in missing)
        raise SuiteError(f"{folder} has no files of {', '.join(missing)}. Fetch them with\n{commands}")
    told = SuitePrompts([])
    for name, found in files.items():
        prompts = _read(SUITES[name], found)
        told.remarks.extend(_remarks(SUITES[name], found, len(prompts)))
        told.prompts.extend(prompts if count is None else _drawn(prompts, count))
    return told


def _read(suite: Suite, files: Sequence[Path]) -> list[Prompt]:
    """Every problem once, in the files' order."""
    first: dict[tuple[str, str], tuple[str, Prompt]] = {}
    for path in files:
        try:
            for row in data.rows(str(path)):
                if isinstance(row, data.Fault):
                    raise SuiteError(f"{row.where}: {row.reason}")
                try:
                    prompt = _prompt(suite, row.values)
                except (ValueError, SyntaxError, KeyError, TypeError) as error:
                    raise SuiteError(f"{row.where} is no row of {suite.name}: {error}") from error
                before, known = first.setdefault((prompt.subset, prompt.prompt_id), (row.where, prompt))
                if known.gold != prompt.gold:
                    raise SuiteError(f"{row.where}: the problem of {before} with another answer")
        except SuiteError:
            raise
        except ValueError as error:
            raise SuiteError(f"{suite.name}: {error}") from error
    if not first:
        raise SuiteError(f"{suite.name}: there are no rows in {', '.join(map(str, files))}")
    return [prompt for _, prompt in first.values()]


def _prompt(suite: Suite, row: Mapping[str, Any]) -> Prompt:
    if suite.task == "knights_knaves":
        return puzzle_prompt(puzzles.from_row(dict(row)))
    values = {name.casefold(): value for name, value in row.items() if value is not None}
    problem = MathProblem(asking_for_a_box(_asked(values)), _answer(values))
    return Prompt(
        prompt_id(suite.task, problem.messages), suite.task, suite.name, problem.messages, problem.to_gold()
    )


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
        boxes = [each.strip() for each in find_boxes(row["solution"]).contents if each.strip()]
        answer = boxes[-1] if boxes else None
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise ValueError(f"it has no answer that is a text or a number; it has {', '.join(row)}")
    text = str(answer).rpartition("####")[2].strip()
    if not text or text.casefold() in ("nan", "none"):
        raise ValueError(f"its answer is {answer!r}")
    return _WHOLE.sub(r"\1", text) if _WHOLE.fullmatch(text) else text


def _remarks(suite: Suite, files: Sequence[Path], problems: int) -> list[str]:
    told = []
    if suite.problems not in (None, problems):
        told.append(f"{suite.name} has {problems} problems here, and {suite.problems} as it was published")
    if any("train" in path.name and "ppl" in path.name for path in files):
        told.append(f"{suite.name} is read from files of a training split: {files[0].name}")
    return told


def _drawn(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many of each subset, in their order."""
    by_subset: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_subset.setdefault(prompt.subset, []).append(place)
    kept: list[int] = []
    for places in by_subset.values():
        order = np.random.default_rng(0).permutation(len(places))[:count]
        kept += [places[index] for index in sorted(order)]
    return [prompts[place] for place in kept]
