"""What goes into an objective and what comes out.

torch and pyarrow are imported where they are used, so that a recipe can be checked without them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache, cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from rlad_core.schema import TokenValue


@dataclass(frozen=True, eq=False, init=False)
class TokenBatch:
    """The response tokens of one micro-batch, one after another; T of them, 0 is allowed.

    Beside what is listed here, a batch has every value that ``rlad_core.schema.LEARNER_VALUES`` declares,
    under its name (``batch.teacher_logprobs``, ``batch.policy_versions``): a tensor [T], or [T, k] where
    there are k per token, or None where nobody made it: no teacher was asked, or not all of them tell it.

    All other tensors are 1-D of length T where nothing else is said; log-probs are natural logs of the
    untruncated, temperature-1 distribution. Gradients flow through what is of pi_theta alone.

    Attributes:
        policy_logprobs: log pi_theta, float, with its gradient.
        old_logprobs: log pi_old as the learner computes it; on the first update of a batch
            ``policy_logprobs.detach()``.
        rollout_logprobs: log-probs as the inference engine reported them while sampling.
        advantages: the response's advantage, repeated for each of its tokens.
        weights: what a token's loss counts, from ``Objective.token_weights`` of the *global* batch; 0 for
            one that is only read, since it is too old. Responses of which no token counts are in no batch.
        is_last: bool, the last token of its response.
        is_end: bool, a token with which its response ended by itself: never one of a response that was cut
            off.
        policy_end_logprobs: log of the probability that pi_theta gives to all end tokens together, with its
            gradient. It means something where ``is_end`` says so, and only there.
        old_end_logprobs: the same of pi_old.
        policy_top_logprobs: log pi_theta of the tokens in ``top_token_ids``, or else in
            ``rollout_top_token_ids``, [T, k], with its gradient; there where they are, and then
            ``policy_end_logprobs`` means something everywhere.
        policy_rest_logprobs: log of the probability that pi_theta gives to all tokens together that are
            neither among those nor, where all end tokens are one outcome, end tokens; with its gradient. It
            is summed of their own logits, and -inf where there are none.
        top_is_end: bool [T, k], which of those tokens are end tokens; only where all end tokens are one
            outcome.
        log_z: what `Objective.log_z` said under pi_old, float32 [T], where the learner kept it.
        token_advantages: what became of `Objective.token_returns`, where the objective normalises them.
        is_correct: bool, the token's response was right.
        group_has_correct: bool, some response of the token's group was right.
        entropy: entropy of pi_theta at the token, in nats, with its gradient.

    Raises:
        TypeError: a keyword is neither listed here nor a declared value; or one of those down to ``weights``,
            which are always needed, is not there.
        ValueError: shapes differ, or a tensor that must be constant carries a gradient.
    """

    policy_logprobs: Tensor
    old_logprobs: Tensor
    rollout_logprobs: Tensor
    advantages: Tensor
    weights: Tensor
    is_last: Tensor | None = None
    is_end: Tensor | None = None
    policy_end_logprobs: Tensor | None = None
    old_end_logprobs: Tensor | None = None
    policy_top_logprobs: Tensor | None = None
    policy_rest_logprobs: Tensor | None = None
    top_is_end: Tensor | None = None
    log_z: Tensor | None = None
    token_advantages: Tensor | None = None
    is_correct: Tensor | None = None
    group_has_correct: Tensor | None = None
    entropy: Tensor | None = None

    def __init__(self, *, policy_logprobs: Tensor, **others: Tensor | None) -> None:
        given = {"policy_logprobs": policy_logprobs, **others}
        values = _declared()
        defaults = {field.name: field.default for field in fields(self)}
        if unknown := sorted(given.keys() - values.keys() - defaults.keys()):
            raise TypeError(
                f"TokenBatch knows no {unknown[0]!r}; declare it in rlad_core/schema/declarations.py, where "
                f"{', '.join(values)} are"
            )
        needed = (name for name, default in defaults.items() if default is MISSING)
        if lacking := [name for name in needed if given.get(name) is None]:
            raise TypeError(f"TokenBatch needs {', '.join(lacking)} too")
        if policy_logprobs.ndim != 1:
            raise ValueError(
                f"TokenBatch.policy_logprobs has shape {tuple(policy_logprobs.shape)}; give one value per "
                "response token"
            )
        tensors: dict[str, Tensor | None] = dict.fromkeys([*values, *defaults]) | given
        for name, tensor in tensors.items():
            if tensor is not None:
                several = name in _SEVERAL or (name in values and values[name].has_several)
                _check(name, tensor, policy_logprobs.shape, dimensions=2 if several else 1)
        vars(self).update(tensors)

    def __getattr__(self, name: str) -> Tensor | None:
        """Only asked for what the batch lacks; its type is that of the declared values."""
        raise AttributeError(
            f"TokenBatch has no {name!r}; of the values per token it has {', '.join(_declared())}"
        )

    @cached_property
    def trained(self) -> Tensor:
        """Bool [T], the tokens that are trained on: those with a weight."""
        return self.weights != 0

    def statistic(self, values: Tensor, where: Tensor | None = None) -> Statistic:
        """Statistic of `values` [T] over the tokens trained on, only those that ``where`` [T] marks."""
        return Statistic.of(values, self.trained if where is None else self.trained & where)


_WITH_GRADIENT = (
    "policy_logprobs",
    "policy_end_logprobs",
    "policy_top_logprobs",
    "policy_rest_logprobs",
    "entropy",
)
_SEVERAL = ("policy_top_logprobs", "top_is_end")


def _check(name: str, tensor: Tensor, tokens: Sequence[int], *, dimensions: int) -> None:
    if tuple(tensor.shape[:1]) != tuple(tokens) or tensor.ndim != dimensions:
        wanted = "one value" if dimensions == 1 else "k values"
        raise ValueError(
            f"TokenBatch.{name} has shape {tuple(tensor.shape)}, but policy_logprobs has "
            f"{tuple(tokens)}; give {wanted} per response token"
        )
    if tensor.requires_grad and name not in _WITH_GRADIENT:
        # With old_logprobs = policy_logprobs, not detached, every gradient would silently be zero.
        raise ValueError(f"TokenBatch.{name} carries a gradient; detach it")


@cache
def _declared() -> Mapping[str, TokenValue]:
    """What the schema declares for the learner, by name."""
    from rlad_core.schema import LEARNER_VALUES

    values = {value.name: value for value in LEARNER_VALUES}
    ours = {field.name for field in fields(TokenBatch)} - {"rollout_logprobs"}
    if taken := sorted(values.keys() & ours):
        raise ValueError(
            f"the value per token {taken[0]!r} has the name of something that the learner makes itself; "
            "declare it under another, prefixed by whose it is, such as teacher_ or rollout_"
        )
    return values


@dataclass(frozen=True, eq=False)
class Statistic:
    """A mean kept as its sum and count, so that it adds up over micro-batches and ranks.

    ``total`` is a number or a 0-d float64 tensor without gradient (kept on its device, to avoid a
    synchronisation per statistic); ``count`` likewise.
    """

    total: Tensor | float
    count: Tensor | float

    @classmethod
    def of(cls, values: Tensor, where: Tensor | None = None) -> Statistic:
        """Statistic of ``values`` [T], bools counting as 0 and 1, restricted to what ``where`` [T] marks.

        Tokens without a weight count too: `TokenBatch.statistic` leaves them out.
        """
        import torch

        values = values.detach().to(torch.float64)
        if where is None:
            return cls(values.sum(), values.numel())
        return cls(values.masked_fill(~where, 0.0).sum(), where.sum(dtype=torch.float64))

    def __add__(self, other: Statistic) -> Statistic:
        return Statistic(self.total + other.total, self.count + other.count)

    @property
    def mean(self) -> float:
        """The mean; NaN where nothing was counted, since no number would be true."""
        count = float(self.count)
        return float(self.total) / count if count else float("nan")


@dataclass(frozen=True, eq=False)
class ObjectiveOutput:
    """Loss (0-d, a *sum* over tokens, so micro-batches and ranks add) and statistics by name.

    Raises:
        ValueError: the loss is not 0-d.
    """

    loss: Tensor
    statistics: dict[str, Statistic]

    def __post_init__(self) -> None:
        if self.loss.ndim:
            raise ValueError(
                f"the loss has shape {tuple(self.loss.shape)}; it must be one number, the sum over tokens of "
                "their losses, each times its weight"
            )
