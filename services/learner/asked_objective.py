"""An objective asked by the learner; what goes wrong in a user's own is told with its name, file and line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlad_core.objectives import Objective, ObjectiveOutput, Statistic, TokenBatch
from rlad_core.objectives.returns import TokenReturns
from rlad_core.sections import code
from services.learner.statistics import OTHERS


def loss_of(objective: Objective, batch: TokenBatch, stage_step: int) -> ObjectiveOutput:
    """Of a micro-batch.

    Raises:
        RuntimeError: the objective failed, or answered something else.
    """
    with _named(objective):
        output: Any = objective(batch, stage_step)
        if not isinstance(output, ObjectiveOutput):
            raise TypeError(f"it returned a {type(output).__name__}, not ObjectiveOutput(loss, statistics)")
        if not output.loss.requires_grad:
            raise ValueError(
                "its loss has no gradient; of a batch only policy_logprobs and entropy carry one"
            )
        for name, statistic in output.statistics.items():
            if not isinstance(statistic, Statistic):
                raise TypeError(
                    f"its statistics say {name!r} with a {type(statistic).__name__}, which does not add up "
                    "over micro-batches and ranks; write batch.statistic(...) of one value per token"
                )
            if name in OTHERS:
                raise ValueError(
                    f"its statistics say {name!r}, which metrics.jsonl says of any step; write another name"
                )
    return output


def returns_of(objective: Objective, batch: TokenBatch, stage_step: int) -> TokenReturns:
    """Of a micro-batch whose policy is the old one.

    Raises:
        RuntimeError: the objective failed, or answered something else.
    """
    with _named(objective):
        returns: Any = objective.token_returns(batch, stage_step)
        if not isinstance(returns, TokenReturns):
            raise TypeError(
                f"token_returns gave a {type(returns).__name__}, not TokenReturns(values, counts)"
            )
        for each in (returns.values, returns.counts):
            if each.shape != batch.weights.shape:
                raise ValueError(
                    f"token_returns gave {tuple(each.shape)} for {batch.weights.numel()} response tokens; "
                    "give one value for each"
                )
    return returns


@contextmanager
def _named(objective: Objective) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise RuntimeError(f"the objective {objective.label} failed: {code.fault(error)}") from error
