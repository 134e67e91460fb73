"""How far TRRD's anchor is from a distribution: the normaliser Z of pi_old^alpha * pi_T^(1 - alpha).

``Z = sum over v of pi_old(v)^alpha * pi_T(v)^(1 - alpha)`` is at most 1 (Hölder's inequality) and 1 only
where the two agree, so the paper's ratio is inflated by 1/Z where they do not. Z depends on neither pi_theta
nor the sampled token.

With the k tokens that the teacher holds likeliest, the others are one bucket: ``Z_k = sum over the k of
pi_old^alpha * pi_T^(1 - alpha) + (rest of pi_old)^alpha * (rest of pi_T)^(1 - alpha)``, and Z <= Z_k <= 1,
equal where k is the whole vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def log_normaliser(old: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """log Z at each place, from log-probs of all that can come there.

    Args:
        old: log pi_old of the n outcomes, [T, n], whose probabilities sum to 1: all tokens, or some and the
            rest as one (`with_rest`).
        teacher: log pi_T of the same, [T, n].
        alpha: share of the old policy, 0..1.

    Returns:
        [T], at most 0.
    """
    return _mixed(old, teacher, alpha).logsumexp(dim=1).clamp(max=0.0)


def with_rest(top: Tensor) -> Tensor:
    """Log-probs of some tokens [T, k], and of all others together [T, k + 1]."""
    import torch

    return torch.cat([top, log_rest(top)[:, None]], dim=1)


def log_rest(top: Tensor) -> Tensor:
    """Log of what the tokens of `top` [T, k] leave of all probability, [T]; -inf where they leave nothing.

    Where the sum is within rounding of 1 the rest is what rounding left, which is nothing beside the others.
    """
    import torch

    together = top.logsumexp(dim=1)
    return torch.where(together < 0, torch.log1p(-together.clamp(max=-1e-30).exp()), -torch.inf)


def _mixed(old: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """alpha * old + (1 - alpha) * teacher, where 0 times minus infinity is 0: x^0 is 1, also for x = 0."""
    if alpha == 0:
        return teacher
    if alpha == 1:
        return old
    return alpha * old + (1 - alpha) * teacher
