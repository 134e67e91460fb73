"""What the learner minimises: one clipped surrogate, and one small file per method.

In: a stage's settings, and a `TokenBatch` of the learner's. Out: a loss that adds up over micro-batches and
ranks, and statistics. Called by: the learner; read by whoever reads a recipe.

With d = log pi_T - log pi_theta, d_old = log pi_T - log pi_old, pi_old the policy at the start of the step, A
the response's group-relative advantage and v = +1 or -1 the verdict; log rho is log pi_theta - log pi_old
where nothing else is said:

=========  ================================================================================================
method     log rho; advantage; additive term
=========  ================================================================================================
grpo       advantage A
dr_grpo    A without the division by the group's spread, responses' sums by a constant
dapo       A, one mean over all tokens
gspo       log rho is the mean over the response; A
trrd       alpha * (log pi_theta - log pi_old) - (1 - alpha) * clamp(d); A. With anchor: normalised
           log pi_theta - alpha * log pi_old - (1 - alpha) * log pi_T + log Z
kdrl       A; beta * 0.5 * d^2
sdar       A; c * sigmoid(b * d) * d, the gate constant
rlsd       A * ((1 - l) + l * clip(exp(sign(A) * d_old), 1 - eps, 1 + eps))
opd        d_old
exopd      d_old + (l - 1) * (log pi_T - log pi_ref)
opdvr      v * max(0, v * d_old)
grpd       A * max(0, sign(A) * d_old)
top_d      log(a * exp(d_old) + 1 - a) and the mean of the later tokens', normalised over the group's tokens
sg_opd     d_old, more of it where its sign is v, less where not
power_opd  pi_T^a - pi_old^a
gkd        (no ratio: a KL or Jensen-Shannon's of both distributions over likely tokens)
sft        (no ratio: cross-entropy)
=========  ================================================================================================
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Annotated

from rlad_core.objectives.aggregation import Aggregation, aggregation_weights
from rlad_core.objectives.interface import ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.objective import Objective
from rlad_core.objectives.surrogate import ClippedSurrogate
from rlad_core.sections.chosen import Chosen, subclass_at

__all__ = [
    "KINDS",
    "Aggregation",
    "AnyObjective",
    "ClippedSurrogate",
    "Objective",
    "ObjectiveOutput",
    "Statistic",
    "TokenBatch",
    "aggregation_weights",
]


def _kinds() -> dict[str, type[Objective]]:
    """The methods of this folder by their `kind`; a file that is put here is one more."""
    found: dict[str, type[Objective]] = {}
    for module in sorted(f"{__name__}.{each.name}" for each in pkgutil.iter_modules(__path__)):
        for thing in vars(importlib.import_module(module)).values():
            if isinstance(thing, type) and issubclass(thing, Objective) and thing.__module__ == module:
                kind = thing.model_fields["kind"].default
                if isinstance(kind, str):
                    found[kind] = thing
    return found


KINDS = _kinds()
"""Method -> its class."""


def _own(place: str) -> type[Objective]:
    made: type[Objective] = subclass_at(place, Objective, "objective")
    return made


AnyObjective = Annotated[Objective, Chosen(key="kind", known=KINDS, own=_own)]
"""A stage's objective in a recipe: one of `KINDS`, or a user's class by its place."""
