"""TRRD (RLAD): the anchor of the trust region mixes the old policy and the teacher.

``log rho = alpha * (log pi_theta - log pi_old) + (1 - alpha) * clamp(log pi_theta - log pi_T, -c, c)``,
A = the response's group-relative advantage, no additive term.

Source: "Reinforcement-aware Knowledge Distillation for LLM Reasoning", arXiv 2602.22495, Eq. 3 (ratio), Eq. 4
(objective, here without its reference KL), Appendix B (clamp, c = 1).

The anchor pi_old^alpha * pi_T^(1 - alpha) sums to Z <= 1 over the vocabulary, so that where student and
teacher disagree the ratio is 1/Z too large: with A > 0 it meets the upper clip sooner, with A < 0 the lower
one later. With ``anchor: normalised`` (ours) the anchor is the distribution it is proportional to, ``log
rho = log pi_theta - alpha * log pi_old - (1 - alpha) * log pi_T + log Z``. There is no clamp, with which
the anchor would depend on pi_theta. Z is told from the teacher's ``top_k`` likeliest tokens, all others
being one outcome (`rlad_core.objectives.anchor`, `rlad_core.objectives.outcomes`), or with ``source: hidden``
over the whole vocabulary (`rlad_core.exact_normaliser`).

What to know of it:

- alpha = 1 is GRPO to the last bit, and the teacher isn't needed. (A sentence of the paper's section 4.1
  says the opposite of its Eq. 3 and Appendix C; the equations are right.)
- The paper doesn't say whether the clamp passes a gradient. Here it is differentiated as written, by
  autograd: where it saturates, the teacher term is constant and a token's gradient is scaled by alpha.
- At the first update pi_theta = pi_old, so rho isn't 1 but (pi_old / pi_T)^(1 - alpha) within the clamp: a
  part of the tokens starts outside the clip range and gets no gradient. ``clip_fraction_low`` and ``_high``
  show how many.
- A masked end token is anchored to the old policy alone, that is, treated as in GRPO. Where end tokens are
  one outcome, the old policy's part keeps the sampled token and the teacher's takes all of them.

Statistics beside the surrogate's: ``teacher_log_ratio``, the mean of log pi_theta - log pi_T as it enters
the ratio (clamped), and ``teacher_log_ratio_clamped_share``, both over the trained tokens on which the
teacher counts; ``anchor_log_z``, the mean of log Z over them, where the anchor is normalised;
``anchor_alpha`` where alpha changes over the stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rlad_core.objectives.anchor import log_normaliser
from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.outcomes import outcomes_of_top
from rlad_core.objectives.ramp import ramp, ramp_problems
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.objectives.teacher import ReadsTeacher
from rlad_core.sections.problems import Problem

if TYPE_CHECKING:
    from torch import Tensor


class TRRD(ReadsTeacher, ClippedSurrogate):
    """Trust-region ratio distillation (RLAD): the ratio's anchor mixes old policy and teacher."""

    kind: str = "trrd"
    alpha: float = Field(
        default=0.5, ge=0, le=1, description="Share of the old policy in the anchor; 1 is GRPO."
    )
    alpha_end: float | None = Field(
        default=None, ge=0, le=1, description="What alpha becomes over alpha_steps; null: it stays."
    )
    alpha_steps: PositiveInt | None = Field(
        default=None, description="Steps of the stage over which it does, in a straight line."
    )
    anchor: Literal["paper", "normalised"] = Field(
        default="paper",
        description="paper: pi_old^alpha pi_T^(1 - alpha) as it is; normalised: divided by its sum over the "
        "vocabulary, which makes it a distribution.",
    )
    teacher_clamp: PositiveFloat | None = Field(
        default=1.0,
        description="Bound of |log pi_theta - log pi_T| before it is mixed; null for none, as it always is "
        "with anchor: normalised.",
    )
    source: Literal["top_k", "hidden"] = Field(
        default="top_k",
        description="Of log Z. top_k: the teacher's likeliest tokens, the rest as one; hidden: all tokens, "
        "from its hidden states, which the learner pulls, and its head, which it holds (engine torch).",
    )
    top_k: PositiveInt = Field(
        default=64, description="With source: top_k, likeliest tokens that the teacher tells apart."
    )

    @model_validator(mode="before")
    @classmethod
    def _unclamped(cls, given: Any) -> Any:
        """Without a clamp where none was written and there can be none."""
        if isinstance(given, dict) and given.get("anchor") == "normalised":
            return {"teacher_clamp": None, **given}
        return given

    @property
    def needs_teacher(self) -> bool:
        """Unless alpha is 1, where the teacher has no weight and isn't asked."""
        return min(self.alpha, 1 if self.alpha_end is None else self.alpha_end) < 1

    @property
    def is_normalised(self) -> bool:
        """Whether there is a Z that is not 1."""
        return self.anchor == "normalised" and self.needs_teacher

    @property
    def teacher_top_k(self) -> int:
        """See `Objective.teacher_top_k`."""
        return self.top_k if self.is_normalised and self.source == "top_k" else 0

    def hidden_alpha(self, step: int) -> float | None:
        """See `Objective.hidden_alpha`."""
        return self.alpha_at(step) if self.is_normalised and self.source == "hidden" else None

    def problems(self) -> Iterator[Problem]:
        """See `Objective.problems`; a clamped anchor depends on the policy and has no normaliser."""
        yield from super().problems()
        yield from ramp_problems("alpha", self.alpha_end, self.alpha_steps)
        if self.anchor == "normalised" and self.teacher_clamp is not None:
            yield Problem(
                "teacher_clamp",
                self.teacher_clamp,
                "with a clamp the anchor would depend on pi_theta and have no normaliser. Write null",
            )
        for name, used in (("source", True), ("top_k", self.source == "top_k")):
            if getattr(self, name) == type(self).model_fields[name].default:
                continue
            if self.anchor == "paper":
                yield Problem(
                    name,
                    getattr(self, name),
                    "has no effect with anchor: paper. Write anchor: normalised, or leave it out",
                )
            elif not used:
                yield Problem(name, self.top_k, "has no effect with source: hidden. Leave it out")

    @property
    def without_teacher(self) -> str:
        """See `Objective.without_teacher`."""
        return "or set alpha to 1, which is GRPO"

    def alpha_at(self, step: int) -> float:
        """Alpha after ``step`` steps of the stage."""
        return ramp(self.alpha, self.alpha_end, self.alpha_steps, step)

    def log_z(self, batch: TokenBatch, step: int) -> Tensor | None:
        """log Z [T], at most 0, see the module; None where the anchor is the paper's.

        Raises:
            ValueError: `source: hidden` needs `log_z`, and the learner did not compute it.
        """
        if not self.is_normalised:
            return None
        alpha = self.alpha_at(step)
        if not 0 < alpha < 1:  # one of the two, whole
            return batch.old_logprobs.new_zeros(batch.old_logprobs.shape)
        if self.source == "hidden":
            raise ValueError("trrd with source: hidden needs TokenBatch.log_z, which the learner sums")
        outcomes = outcomes_of_top(batch, "trrd with anchor: normalised")
        return log_normaliser(outcomes.policy.detach(), outcomes.teacher, alpha)

    def __call__(self, batch: TokenBatch, step: int) -> ObjectiveOutput:
        """Loss and statistics of one micro-batch."""
        import torch

        log_ratio = batch.policy_logprobs - batch.old_logprobs
        if not self.needs_teacher:
            return self.surrogate(batch, log_ratio, batch.advantages)

        term = self.teacher_term(batch)
        counts = term.counts
        unclamped = term.policy - term.teacher
        teacher_log_ratio = unclamped
        if self.teacher_clamp is not None:
            teacher_log_ratio = unclamped.clamp(-self.teacher_clamp, self.teacher_clamp)
        alpha = self.alpha_at(step)
        mixed = alpha * log_ratio + (1 - alpha) * teacher_log_ratio
        told: dict[str, Statistic] = {} if self.alpha_end is None else {"anchor_alpha": Statistic(alpha, 1.0)}
        if (normaliser := batch.log_z if batch.log_z is not None else self.log_z(batch, step)) is not None:
            mixed = mixed + normaliser
            told["anchor_log_z"] = batch.statistic(normaliser, counts)
        return self.surrogate(
            batch,
            torch.where(counts, mixed, log_ratio),
            batch.advantages,
            statistics={
                "teacher_log_ratio": batch.statistic(teacher_log_ratio, counts),
                "teacher_log_ratio_clamped_share": batch.statistic(teacher_log_ratio != unclamped, counts),
                "kl_to_teacher": batch.statistic(unclamped, counts),
                **told,
            },
        )
