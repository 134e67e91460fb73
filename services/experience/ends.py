"""The end tokens of a run: those that end a response, and what a teacher is asked about them.

Sampling stops at every end token of policy and teachers, unless the recipe says at which. Where there are
several, teachers are asked for the probability of all together, which the objectives take for one outcome
(`rlad_core.objectives.teacher`). With a single one the sampled token says all, and nothing is asked.

Either all teachers tell it or none is asked: the rows of one step may be of several teachers, and what not
all of them tell is told of none (`rlad_core.schema.join_experience`). So with a teacher that cannot tell, the
sampled end token is compared for all, and each that is known to end otherwise than the policy is refused.
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
            MismatchError: a teacher is known to end otherwise than the policy, and it or another one cannot
                tell what it gives to all end tokens.
        """
        self._teachers[place] = teacher
        if not any(each.compares_end_tokens for each in objectives):
            return
        for other, known in self._teachers.items():
            if not self._silent or not known.end_tokens or set(known.end_tokens) == set(self._policy):
                continue
            silent = other if other in self._silent else self._silent[0]
            raise MismatchError(
                f"{other} ends with {list(known.end_tokens)} and the policy with {list(self._policy)}, and "
                f"{silent} does not tell the probability of all together. Write mask_end_token: true in the "
                f"objective, or engine: torch for {silent}"
            )

    @property
    def _silent(self) -> list[str]:
        """Places of the teachers that cannot tell."""
        return [place for place, known in self._teachers.items() if not known.tells_end_tokens]

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
        if place not in self._teachers or self._silent or not objective.compares_end_tokens:
            return ()
        return self.outcome if len(self.outcome) > 1 else ()
