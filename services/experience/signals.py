"""The teachers' signals of a run: pinned at its start, looked at in every step before it is trained on."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlad_core.config import TeacherSection
from rlad_core.metric_specs import StepStage
from services.base.telemetry import span
from services.clients.teachers import PolicyFacts, Teacher
from services.clients.teachers.pinned import Pinned, known_texts, pin
from services.clients.teachers.verification import Verification
from services.experience.groups import Group
from services.experience.scorers import stage_of

_NOT_SAID = (
    "it does not say what its log-probs are made with, so that its weights, chat template, precision, "
    "temperature and the place of its values cannot be known. What can be seen is looked at in every step: "
    "whether a sequence by itself and a known text have the same log-probs as before"
)


@dataclass(frozen=True)
class Looked:
    """What a look at a step found.

    Attributes:
        numbers: by the names of metrics.jsonl; nothing where nobody is verified.
        times: start and end of each look, in seconds since the epoch, by the stage that was looked at.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    times: list[tuple[StepStage, float, float]] = field(default_factory=list)


class Signals:
    """Of all teachers that are verified, by their place in the recipe.

    Args:
        seed: of the run.
        say: told of a teacher's place, and what cannot be known of it.
    """

    def __init__(self, seed: int, say: Callable[[str, str], None]) -> None:
        self._seed, self._say = seed, say
        self._of: dict[str, Verification] = {}

    async def pin(self, place: str, teacher: Teacher, settings: TeacherSection, policy: PolicyFacts) -> None:
        """Note what a teacher says now, unless its settings say that nobody looks."""
        if not settings.verify:
            return
        pinned = await pin(teacher, known_texts(policy.known_pairs, policy.fingerprint))
        if pinned.made_with is None:
            self._say(place, _NOT_SAID)
        self._of[place] = Verification(
            place,
            teacher,
            pinned,
            one_in=settings.verify_one_in,
            tolerance=settings.verify_tolerance,
            seed=self._seed,
        )

    @property
    def pinned(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {place: each.pinned.saved() for place, each in self._of.items()}

    def restore(self, pinned: Mapping[str, Any]) -> None:
        """Go on with what was pinned when the run began."""
        for place, saved in pinned.items():
            if place in self._of:
                self._of[place].restore(Pinned.read(saved))

    async def check(
        self,
        step: int,
        groups: Sequence[Group],
        asked_of: Callable[[str], Sequence[int]],
    ) -> Looked:
        """Look at what a step will be trained on.

        Args:
            groups: with what each teacher, and the frozen reference, said of them.
            asked_of: end tokens that a teacher was asked for, by its place.

        Raises:
            SignalError: something is wrong with a teacher's scores.
        """
        checked, times = [], []
        for place, verification in self._of.items():
            told = [group.told[place] for group in groups if place in group.told]
            if told:
                answers = [(each.read, each.scores) for each in told]
                stage, began = stage_of(place), time.time()
                with span(stage):  # the step waits for it, and for nothing else
                    checked.append(await verification.check(step, answers, asked_of(place)))
                times.append((stage, began, time.time()))
        if not checked:
            return Looked()
        numbers = {
            "teacher_checked": sum(each.sequences for each in checked),
            "teacher_check_difference": max(each.difference for each in checked),
            "teacher_check_seconds": sum(each.seconds for each in checked),
        }
        return Looked(numbers, times)
