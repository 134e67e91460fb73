"""DAPO's objective: GRPO with one mean over all tokens and a higher upper clip.

``log rho = log pi_theta - log pi_old``, A = the response's group-relative advantage, no additive term;
``aggregation: token_mean``, eps 0.2 below and 0.28 above. What else DAPO is made of stands elsewhere in a
recipe: groups that teach nothing are dropped and refilled (``rollout.drop_uninformative``,
``rollout.refill_rounds``), and overlong responses are penalised by the reward.

Source: DAPO, arXiv 2503.14476.
"""

from __future__ import annotations

from pydantic import Field

from rlad_core.objectives.aggregation import Aggregation
from rlad_core.objectives.grpo import GRPO


class DAPO(GRPO):
    """GRPO as DAPO has it; no teacher."""

    kind: str = "dapo"
    aggregation: Aggregation = Field(
        default="token_mean", description="DAPO's own is token_mean: one mean over all tokens."
    )
