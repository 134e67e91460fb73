"""The section `until` of a stage: by what it ends before its steps are done."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from rlad_core.sections.base import Section
from rlad_core.sections.problems import Problem
from rlad_core.sections.resume import OnResume

Share = Annotated[float, Field(ge=0, lt=1)]


class StageEnd(Section):
    """Rules, of which the first that holds ends the stage; the steps that are left are the next stage's."""

    on_resume: ClassVar[OnResume | None] = OnResume.FIXED

    tokens: PositiveInt | None = Field(default=None, description="So many response tokens were trained on.")
    evaluations_without_rise: PositiveInt | None = Field(
        default=None,
        description="The accuracy on the held-out prompts was not above its best in so many evaluations in a "
        "row.",
    )
    disagreement: Share | None = Field(
        default=None,
        description="In a step, on more than this share of the tokens teacher and verifier disagree in sign: "
        "the teacher holds a token of a right response less likely than the policy does, or one of a wrong "
        "response likelier.",
    )

    def problems(self, *, evaluations: int | None, asks_teacher: bool) -> Iterator[Problem]:
        """Rules that could never hold, by the name of the field.

        Args:
            evaluations: of the stage before its last step, at most; None: nothing is evaluated on the way.
            asks_teacher: the stage's objective has the teacher's log-probs.
        """
        if not self.model_dump(exclude_none=True):
            yield Problem("", {}, "has no rule. Write tokens: 100000, say, or until: null")
        if (wanted := self.evaluations_without_rise) is not None:
            if evaluations is None:
                why = "nothing is evaluated on the way. Write evaluation.every: 10, say"
                yield Problem("evaluations_without_rise", wanted, why)
            elif evaluations <= wanted:  # the first of them is there to be compared with
                why = (
                    f"{_plural(evaluations)} before the last step of the stage, and {wanted + 1} are needed. "
                    "Write less here or in evaluation.every, or give the stage more steps"
                )
                yield Problem("evaluations_without_rise", wanted, why)
        if self.disagreement is not None and not asks_teacher:
            yield Problem(
                "disagreement",
                self.disagreement,
                "the objective has no log-probs of a teacher. Write null, or another objective",
            )


def _plural(evaluations: int) -> str:
    return "there is 1 evaluation" if evaluations == 1 else f"there are {evaluations or 'no'} evaluations"
