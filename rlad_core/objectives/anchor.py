"""How far TRRD's anchor is from a distribution: the normaliser Z of pi_old^alpha * pi_T^(1 - alpha).

``Z = sum over v of pi_old(v)^alpha * pi_T(v)^(1 - alpha)`` is at most 1 (Hölder's inequality) and 1 only
where the two agree, so the paper's ratio is inflated by 1/Z where they do not. Z depends on neither pi_theta
nor the sampled token.

With the k tokens that the teacher holds likeliest, the others are one bucket: ``Z_k = sum over the k of
pi_old^alpha * pi_T^(1 - alpha) + (rest of pi_old)^alpha * (rest of pi_T)^(1 - alpha)``, and Z <= Z_k <= 1,
equal where k is the whole vocabulary.

The learner sums the rest of pi_old. That of pi_T has no digits where the teacher is sure and is taken from
above (`rlad_core.objectives.rest`, which says how large logits may be to an engine that is not ours), so that
the order holds in float32 too: log Z_k is below log Z by no more than rounding, 2e-6 and alpha times half a
step of the policy's logsumexp, another 2e-6 up to 64 nats and 4e-6 up to 128. For that Z_k is too large by up
to (rest of pi_old)^alpha * r^(1 - alpha), where r is 3.8e-6 or 2^20 times the kth token's probability,
whichever is less: with 3.8e-6, by 1.6e-4 at alpha 0.3, 0.002 at 0.5, 0.024 at 0.7 and 0.29 at 0.9; with a kth
token of 1e-14, by 0.004 at 0.7 and 0.16 at 0.9.
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
        alpha: share of the old policy, above 0 and below 1: at the ends the anchor is one of the two, whole.

    Returns:
        [T], at most 0.
    """
    return (alpha * old + (1 - alpha) * teacher).logsumexp(dim=1).clamp(max=0.0)
