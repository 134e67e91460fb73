"""Knights and Knaves as a task: subsets by number of people, `generator`'s splits, `verifier`'s reward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from rlad_core.tasks.base import Prompt, Task, Verdict, prompt_id
from rlad_core.tasks.knights_knaves import generator, reading, trace, verifier
from rlad_core.tasks.knights_knaves.prompt import messages
from rlad_core.tasks.knights_knaves.puzzle import Puzzle

_PEOPLE = {f"{people}_people": people for people in range(generator.MIN_PEOPLE, generator.MAX_PEOPLE + 1)}


@dataclass(frozen=True)
class KnightsKnaves(Task):
    """The task with the names of one pool (see `names`)."""

    name: ClassVar[str] = "knights_knaves"
    can_hang: ClassVar[bool] = False
    name_pool: str = "common"

    @property
    def subsets(self) -> tuple[str, ...]:
        """The sizes."""
        return tuple(_PEOPLE)

    def prompts(self, split: str, subset: str, count: int | None, seed: int) -> list[Prompt]:
        """`count` puzzles with "N_people" for subset; see `generator` for splits and seeds."""
        if subset not in _PEOPLE:
            raise ValueError(f"subset {subset!r} is unknown; write one of {', '.join(_PEOPLE)}")
        if count is None:
            raise ValueError("puzzles are generated without an end; write a count")
        puzzles = generator.generate(_PEOPLE[subset], split, seed, count, self.name_pool)
        return [prompt_for(puzzle) for puzzle in puzzles]

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
        """The worked solution of `trace`."""
        return trace.demonstration(Puzzle.from_gold(gold))


def prompt_for(puzzle: Puzzle) -> Prompt:
    """The prompt that asks for the solution of one puzzle, wherever it comes from."""
    chat = messages(puzzle)
    return Prompt(
        prompt_id=prompt_id(KnightsKnaves.name, chat),
        task=KnightsKnaves.name,
        subset=f"{len(puzzle.names)}_people",
        messages=chat,
        gold=puzzle.to_gold(),
    )
