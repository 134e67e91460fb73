"""How far TRRD's anchor is from a distribution: the normaliser Z of pi_old^alpha * pi_T^(1 - alpha).

``Z = sum over v of pi_old(v)^alpha * pi_T(v)^(1 - alpha)`` is at most 1 (Hölder's inequality) and 1 only
where the two agree, so the paper's ratio is inflated by 1/Z where they do not. Z depends on neither pi_theta
nor the sampled token.

With the k tokens that the teacher holds likeliest, the others are one bucket: ``Z_k = sum over the k of
pi_old^alpha * pi_T^(1 - alpha) + (rest of pi_old)^alpha * (rest of pi_T)^(1 - alpha)``, and Z <= Z_k <= 1,
equal where k is the whole vocabulary.

The learner sums the rest of pi_old. That of pi_T has no digits where the teacher is sure and is taken from
above (`rlad_core.objectives.rest`), so that the order holds in float32 too: log Z_k is below log Z by no more
than rounding, 2e-6. For that Z_k is too large by up to (rest of pi_old)^alpha * r^(1 - alpha), where r is
3.8e-6 or 2^20 times the kth token's probability, whichever is less: with 3.8e-6, by 1.6e-4 at alpha 0.3,
0.002 at 0.5, 0.024 at 0.7 and 0.29 at 0.9; with a kth token of 1e-14, by 0.004 at 0.7 and 0.16 at 0.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def log_normaliser(old: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """log Z at each place, from log-probs of all that can come there.

    Args:
        old: log pi_old of the n outcomes, [T, n], whose probabilities sum to 1: all tokens, or some and the
            rest as one.
        teacher: log pi_T of the same, [T, n].
        alpha: share of the old policy, 0..1.

    Returns:
        [T], at most 0.
    """
    return _mixed(old, teacher, alpha).logsumexp(dim=1).clamp(max=0.0)


def _mixed(old: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """alpha * old + (1 - alpha) * teacher, where 0 times minus infinity is 0: x^0 is 1, also for x = 0."""
    if alpha == 0:
        return teacher
    if alpha == 1:
        return old
    return alpha * old + (1 - alpha) * teacher
