"""What the learner minimises: one clipped surrogate, and one small file per method.

With d = log pi_T - log pi_theta and pi_old the policy that sampled the batch:

======  ===========================================================================  =======================
method  log rho                                                                      advantage; additive term
======  ===========================================================================  =======================
grpo    log pi_theta - log pi_old                                                    A
trrd    alpha * (log pi_theta - log pi_old) - (1 - alpha) * clamp(d)                 A
kdrl    log pi_theta - log pi_old                                                    A; beta * 0.5 * d^2
opd     log pi_theta - log pi_old                                                    log pi_T - log pi_old
sft     (no ratio: cross-entropy)
======  ===========================================================================  =======================
"""

from collections.abc import Callable
from typing import Any, Protocol

from rlad_core.objectives.aggregation import Aggregation, aggregation_weights
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.interface import Objective, ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.sft import SFT
from rlad_core.objectives.trrd import TRRD

__all__ = [
    "GRPO",
    "KDRL",
    "OPD",
    "SFT",
    "TRRD",
    "Aggregation",
    "Objective",
    "ObjectiveConfig",
    "ObjectiveOutput",
    "Statistic",
    "TokenBatch",
    "aggregation_weights",
    "build",
]


class ObjectiveConfig(Protocol):
    """The part of an objective's configuration (a pydantic model) that ``build`` reads."""

    @property
    def kind(self) -> str:
        """Which method."""
        ...

    def model_dump(self, *, exclude: set[str]) -> dict[str, Any]:
        """All other fields by name."""
        ...


_METHODS: dict[str, Callable[..., Objective]] = {
    "trrd": TRRD,
    "grpo": GRPO,
    "kdrl": KDRL,
    "opd": OPD,
    "sft": SFT,
}


def build(config: ObjectiveConfig) -> Objective:
    """The objective that a stage of the recipe names.

    Raises:
        ValueError: unknown ``kind``, or a value the method refuses.
        TypeError: the configuration has a field that the method doesn't know.
    """
    if config.kind not in _METHODS:
        raise ValueError(f"objective kind is {config.kind!r}; use one of {', '.join(_METHODS)}")
    # `source` says where an SFT batch comes from, which the loss needn't know.
    return _METHODS[config.kind](**config.model_dump(exclude={"kind", "source"}))
