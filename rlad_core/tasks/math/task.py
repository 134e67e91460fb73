"""Math as a task: subsets are data files, the answer is judged by `verifier`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np

from rlad_core.tasks.base import Prompt, Task, Verdict, prompt_id
from rlad_core.tasks.math import published, verifier
from rlad_core.tasks.math.extract import find_boxes, without_boxes
from rlad_core.tasks.math.published import Format, MathProblem


@dataclass(frozen=True)
class ProblemSource:
    """A file of problems and the format of its rows (see `published`)."""

    path: Path
    format: Format


@dataclass(frozen=True)
class Math(Task):
    """The task with the problems of some files, by split and subset. Judging needs no files."""

    name: ClassVar[str] = "math"
    files: Mapping[tuple[str, str], ProblemSource] = field(default_factory=dict)

    @property
    def subsets(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(dict.fromkeys(subset for _, subset in self.files))

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` problems of a file drawn with this seed, or all of them, in the file's order.

        Raises:
            ValueError: there is no such file, it is no data file, or it has fewer different problems.
        """
        if (split, subset) not in self.files:
            known = ", ".join("/".join(key) for key in self.files) or "none"
            raise ValueError(f"no data file is named {split}/{subset}; there is {known}")
        file = self.files[split, subset]
        problems = _problems(file)
        if count is None:
            count = len(problems)
        if count > len(problems):
            raise ValueError(f"{file.path} has {len(problems)} different problems, fewer than {count}")
        drawn = np.random.default_rng(seed).permutation(len(problems))[:count]
        return [prompt_for(problems[index], subset) for index in np.sort(drawn)]

    def verify(self, response: str, gold: str) -> Verdict:
        """Judge a reply, only in a process that can be killed: see `verifier.verify`.

        Unlike other tasks' `verify` this one may take any time and any memory, for some texts.
        """
        return verifier.verify(response, _read_gold(gold)[0])

    def warm_up(self) -> None:
        """Load the algebra, which takes longer than a check may."""
        verifier.warm_up()

    def failed(self, gold: str) -> Verdict:
        """What an empty reply gets."""
        return self.verify("", gold)

    def demonstration(self, gold: str) -> str:
        """The data's own solution, with the answer as its only box.

        Raises:
            ValueError: the data has none.
        """
        answer, solution = _read_gold(gold)
        if solution is None:
            raise ValueError(
                f"the data has no worked solution for this problem (answer {answer[:60]!r}). Train on files "
                "of format gsm8k or math, which have solutions, or on a teacher's responses (source: teacher)"
            )
        if [content.strip() for content in find_boxes(solution).contents] == [answer]:
            return solution
        return f"{without_boxes(solution).rstrip()}\nThe answer is $\\boxed{{{answer}}}$."


def prompt_for(problem: MathProblem, subset: str) -> Prompt:
    """The prompt that asks for the answer to one problem."""
    return Prompt(
        prompt_id=prompt_id(Math.name, problem.messages),
        task=Math.name,
        subset=subset,
        messages=problem.messages,
        gold=problem.to_gold(),
    )


@functools.lru_cache(maxsize=4)
def _problems(file: ProblemSource) -> list[MathProblem]:
    """Read once for several draws from the same file; a run's files don't change under it."""
    return published.read(file.path, file.format)


def _read_gold(gold: str) -> tuple[str, str | None]:
    """Answer and solution."""
    try:
        fields = json.loads(gold)
        answer, solution = fields["answer"], fields.get("solution")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f'gold {gold[:80]!r} was not written by task math. Write {{"answer": "42"}}'
        ) from error
    if not isinstance(answer, str) or not answer.strip() or not isinstance(solution, str | None):
        raise ValueError(f"gold {gold[:80]!r} needs an answer as text; a solution is a text or null")
    return answer, solution
