"""The end tokens of a run: those that end a response, and what a teacher is asked about them.

Sampling stops at every end token of policy and teachers, unless the recipe says at which. Where there are
several, a teacher that can is asked for the probability of all together, which the objectives take for one
outcome (`rlad_core.objectives.teacher`). With a single one the sampled token says all, and nothing is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlad_core.language_model.end_tokens import united
from rlad_core.objectives import Objective
from services.clients.teachers import Compared, MismatchError


class EndTokens:
    """Those of a run, which grow as teachers are compared with the policy.

    Args:
        policy: that end a response, by the policy's files or by the recipe.
        said: the recipe says it, so that no teacher adds any to those that end a response.
    """

    def __init__(self, policy: Sequence[int], *, said: bool) -> None:
        self._policy = united(policy)
        self._said = said
        self._teachers: dict[str, Compared] = {}

    def add(self, place: str, teacher: Compared, objectives: Sequence[Objective]) -> None:
        """Note what is known of a teacher.

        Args:
            place: of the teacher in the recipe.
            objectives: of all stages.

        Raises:
            MismatchError: policy and teachers differ in their end tokens, and a teacher whose own are known
                cannot tell what it gives to all of them.
        """
        self._teachers[place] = teacher
        if not any(each.compares_end_tokens for each in objectives):
            return
        for silent, known in self._teachers.items():
            if known.tells_end_tokens or not known.end_tokens:
                continue
            own, it = set(known.end_tokens), "it" if silent == place else silent
            if own != set(self._policy):
                other, ends = "the policy", self._policy
            elif own != set(self.outcome):
                # What ends a response of one teacher's would be text to the other one.
                other, ends = "policy and teachers", self.outcome
            else:
                continue
            raise MismatchError(
                f"{it} ends with {list(known.end_tokens)} and {other} with {list(ends)}, and {it} does not "
                f"tell the probability of all together. Write mask_end_token: true in the objective, or "
                f"engine: torch for {'the teacher' if it == 'it' else silent}"
            )

    @property
    def stop(self) -> tuple[int, ...]:
        """Tokens that end a response."""
        return self._policy if self._said else self.outcome

    @property
    def outcome(self) -> tuple[int, ...]:
        """E: the union of the policy's and all teachers'."""
        return united(self._policy, *(each.end_tokens for each in self._teachers.values()))

    def asked_of(self, place: str | None, objective: Objective) -> tuple[int, ...]:
        """Tokens whose probability together a teacher is asked for; none: it is not asked.

        Args:
            place: of the teacher in the recipe; None: there is none.
        """
        known = self._teachers.get(place) if place is not None else None
        if known is None or not known.tells_end_tokens or not objective.compares_end_tokens:
            return ()
        return self.outcome if len(self.outcome) > 1 else ()
