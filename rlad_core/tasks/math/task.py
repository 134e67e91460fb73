"""Math as a task: subsets are data files, the answer is judged by `verifier`."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from rlad_core.data import Fault
from rlad_core.tasks.base import Prompt, Task, Verdict, prompt_id
from rlad_core.tasks.math import verifier
from rlad_core.tasks.math.comparing import Tolerance
from rlad_core.tasks.math.extract import find_boxes, without_boxes
from rlad_core.tasks.math.judging import BoxPolicy, Judging, Where
from rlad_core.tasks.math.published import Format, MathProblem, ProblemReader, comparable
from rlad_core.tasks.rows import FileSource, SourcedFiles


@dataclass(frozen=True)
class ProblemSource:
    """Problems of a path, see `FileSource`, and how its rows are read, see `published`.

    prompt, gold, solution: columns; None: by the format's names.
    keep: see `FileSource`.
    """

    path: str | Path
    format: Format = "auto"
    encoding: str | None = None
    prompt: str | None = None
    gold: str | None = None
    solution: str | None = None
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Math(Task):
    """The task with the problems of some files, by split and subset. Judging needs no files.

    box, relative_tolerance, tolerate: see `judging.Judging`.
    """

    name: ClassVar[str] = "math"
    files: Mapping[tuple[str, str], ProblemSource] = field(default_factory=dict)
    box: BoxPolicy = "last"
    relative_tolerance: float = 0.0
    tolerate: Where = "rounded"

    def __post_init__(self) -> None:
        """Refuse what `Judging` refuses, since a service's settings come here as they were written."""
        Judging(box=self.box, relative_tolerance=self.relative_tolerance, tolerate=self.tolerate)

    @functools.cached_property
    def _rows(self) -> SourcedFiles:
        return SourcedFiles(
            {
                part: (
                    FileSource(str(file.path), file.encoding, file.keep),
                    ProblemReader(file.format, file.prompt, file.gold, file.solution),
                )
                for part, file in self.files.items()
            }
        )

    @property
    def subsets(self) -> tuple[str, ...]:
        """The names of the files."""
        return tuple(dict.fromkeys(subset for _, subset in self.files))

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` problems of a file drawn with this seed, or all of them, in the file's order.

        Raises:
            ValueError: there is no such file, it cannot be read, or it has fewer different problems.
        """
        return self._rows.of(split, subset).draw(Math.name, subset, count, seed)

    def faults(self, split: str, subset: str) -> Sequence[Fault]:
        """Rows of a file that are no problems."""
        return self._rows.of(split, subset).faults

    def verify(self, response: str, gold: str) -> Verdict:
        """Judge a reply, only in a process that can be killed: see `verifier.verify`.

        Unlike other tasks' `verify` this one may take any time and any memory, for some texts.
        """
        tolerance = Tolerance(self.relative_tolerance, self.tolerate)
        return verifier.verify(response, _read_gold(gold)[0], box=self.box, tolerance=tolerance)

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


def prompt_for(problem: MathProblem, subset: str, where: str = "") -> Prompt:
    """The prompt that asks for the answer to one problem; `where` it is from."""
    messages, answer = problem.messages, comparable(problem.answer)
    return Prompt(
        prompt_id(Math.name, messages), Math.name, subset, messages, problem.to_gold(), where, answer
    )


def _read_gold(gold: str) -> tuple[str, str | None]:
    """Answer and solution."""
    try:
        fields = json.loads(gold)
        answer, solution = fields["answer"], fields.get("solution")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'gold {gold[:80]!r} was not written by task math. Write {{"answer": "42"}}'
        ) from error
    if not isinstance(answer, str) or not answer.strip() or not isinstance(solution, str | None):
        raise ValueError(f"gold {gold[:80]!r} needs an answer as text; a solution is a text or null")
    return answer, solution
