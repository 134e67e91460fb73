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
            MismatchError: its end tokens are others, and it cannot tell what it gives to all of them.
        """
        others = bool(teacher.end_tokens) and set(teacher.end_tokens) != set(self._policy)
        if others and not teacher.tells_end_tokens and any(map(_compares_end_tokens, objectives)):
            raise MismatchError(
                f"it ends with {list(teacher.end_tokens)} and the policy with {list(self._policy)}, and it "
                "does not tell the probability of all together. Write mask_end_token: true in the objective, "
                "or engine: torch for the teacher"
            )
        self._teachers[place] = teacher

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
        if known is None or not known.tells_end_tokens or not _compares_end_tokens(objective):
            return ()
        return self.outcome if len(self.outcome) > 1 else ()


def _compares_end_tokens(objective: Objective) -> bool:
    """Whether what the teacher says of end tokens enters the loss."""
    return objective.scores_with_teacher and not getattr(objective, "mask_end_token", False)
