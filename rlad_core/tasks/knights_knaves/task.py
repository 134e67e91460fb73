"""Knights and Knaves as a task: subsets are sizes of generated puzzles, or files."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from rlad_core.data import Fault
from rlad_core.tasks.base import Prompt, Task, Verdict, prompt_id
from rlad_core.tasks.knights_knaves import generator, perturbations, published, reading, trace, verifier
from rlad_core.tasks.knights_knaves.prompt import messages
from rlad_core.tasks.knights_knaves.puzzle import Puzzle, worked_in
from rlad_core.tasks.rows import FileSource, SourcedFiles

_PEOPLE = {f"{people}_people": people for people in range(generator.MIN_PEOPLE, generator.MAX_PEOPLE + 1)}


@dataclass(frozen=True)
class KnightsKnaves(Task):
    """The task with generated puzzles about people of one pool of `names`, and those of some files.

    files: by split and subset, see `published`. Judging needs none.
    """

    name: ClassVar[str] = "knights_knaves"
    can_hang: ClassVar[bool] = False
    name_pool: str = "common"
    files: Mapping[tuple[str, str], FileSource] = field(default_factory=dict)

    @functools.cached_property
    def _rows(self) -> SourcedFiles:
        reader = published.PuzzleReader()
        return SourcedFiles({part: (source, reader) for part, source in self.files.items()})

    @property
    def subsets(self) -> tuple[str, ...]:
        """The sizes, and the files; "3_people_flip_role" may be asked for too, see `perturbations.KINDS`."""
        return (*_PEOPLE, *dict.fromkeys(subset for _, subset in self.files))

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` puzzles of a file, drawn with this seed, or all; or so many generated ones of a size.

        Raises:
            ValueError: there is no such split or subset, or it does not hold so many.
        """
        if (split, subset) in self.files:
            return self._rows.of(split, subset).draw(KnightsKnaves.name, subset, count, seed)
        return [prompt_for(puzzle, subset) for puzzle in self._generated(split, subset, count, seed)]

    def faults(self, split: str, subset: str) -> Sequence[Fault]:
        """Rows of a file that are no puzzles; generated ones have none."""
        return self._rows.of(split, subset).faults if (split, subset) in self.files else ()

    def _generated(self, split: str, subset: str, count: int | None, seed: int) -> list[Puzzle]:
        size = next((size for size in _PEOPLE if subset == size or subset.startswith(f"{size}_")), None)
        kind = "" if size is None else subset.removeprefix(size).removeprefix("_")
        if size is None or (kind and kind not in perturbations.KINDS):
            known = f"{', '.join(self.subsets)}; behind a size may stand _{', _'.join(perturbations.KINDS)}"
            raise ValueError(f"subset {subset!r} is unknown; write one of {known}")
        if count is None:
            raise ValueError("puzzles are generated without an end; write a count")
        asked = (_PEOPLE[size], split, seed, count, self.name_pool)
        return perturbations.generate(kind, *asked) if kind else generator.generate(*asked)

    def verify(self, response: str, gold: str) -> Verdict:
        """The Logic-RL reward, see `verifier`."""
        return verifier.verify(response, Puzzle.from_gold(gold))

    def failed(self, gold: str) -> Verdict:
        """What an empty reply gets."""
        return self.verify("", gold)

    def gold_of(self, prompt: str) -> str:
        """The puzzle in the prompt, solved."""
        return reading.read(prompt).to_gold()

    def demonstration(self, gold: str) -> str:
        """The data's own worked solution, or that of `trace`."""
        return worked_in(gold) or trace.demonstration(Puzzle.from_gold(gold))


def prompt_for(puzzle: Puzzle, subset: str | None = None) -> Prompt:
    """The prompt that asks for the solution of one puzzle, wherever it comes from.

    Args:
        subset: that it is reported under; None: its size.
    """
    chat = messages(puzzle)
    return Prompt(
        prompt_id=prompt_id(KnightsKnaves.name, chat),
        task=KnightsKnaves.name,
        subset=subset or f"{len(puzzle.names)}_people",
        messages=chat,
        gold=puzzle.to_gold(),
    )
