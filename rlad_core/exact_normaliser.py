"""log Z of TRRD's anchor over the whole vocabulary, summed beside the policy's log-probs.

``Z = sum over v of pi_old(v)^alpha * pi_T(v)^(1 - alpha)`` (`rlad_core.objectives.anchor`) wants both
distributions whole. The policy's logits z are there a chunk at a time while its log-probs are computed
(`rlad_core.logprobs`); the teacher's, y, are made of its hidden states and its head, chunk by chunk too:

    log Z = logsumexp(alpha z + (1 - alpha) y) - alpha logsumexp(z) - (1 - alpha) logsumexp(y)

so that one more product per place is all that it costs. End tokens that are one outcome are one in Z too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlad_core.logits import chunks_of_logits


@dataclass(frozen=True, eq=False)
class HeadWeights:
    """What a model's LM head is made of.

    Attributes:
        weight: [V, D].
        bias: [V]; None: it has none.
        scale: of the logits.
        tokens: the first so many rows are tokens.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float
    tokens: int

    @property
    def num_bytes(self) -> int:
        """Of its tensors."""
        return self.weight.nbytes + (0 if self.bias is None else self.bias.nbytes)


class ExactNormaliser:
    """Sums log Z of T places while their log-probs are computed. It takes no part in any gradient.

    Args:
        hidden: the teacher's states [T, D], after the final norm, that predict the places' tokens.
        head: the teacher's, on the same device.
        alpha: share of the old policy, above 0 and below 1.
        end_ids: tokens that are one outcome.

    Attributes:
        log_z: float32 [T], at most 0, once all places were seen; float64 where the policy's logits are.

    Raises:
        ValueError: alpha is an end, where Z is 1.
    """

    def __init__(self, hidden: Tensor, head: HeadWeights, alpha: float, end_ids: Sequence[int] = ()) -> None:
        if not 0 < alpha < 1:
            raise ValueError(
                f"alpha is {alpha:g}; between 0 and 1 there is a normaliser, at the ends it is 1"
            )
        self._hidden, self._head, self._alpha = hidden, head, alpha
        self._ends = torch.tensor(end_ids, dtype=torch.long, device=hidden.device) if end_ids else None
        self._parts: list[Tensor] = []

    @property
    def log_z(self) -> Tensor:
        """See the class."""
        return torch.cat(self._parts) if self._parts else self._hidden.new_empty(0, dtype=torch.float32)

    def see(self, rows: slice, logits: Tensor) -> Tensor | None:
        """Take the policy's logits of some places, the next ones after those that were seen.

        Args:
            rows: which places; those from T on are no places of a response, and left out.
            logits: [places, tokens], left as they are.

        Returns:
            What `close` takes; None: there is nothing to close.
        """
        places = min(rows.stop, self._hidden.shape[0]) - rows.start
        if places <= 0:
            return None
        policy = logits[:places]
        [(_, teacher, work)] = chunks_of_logits(
            self._hidden[rows.start : rows.start + places],
            self._head.weight,
            bias=self._head.bias,
            scale=self._head.scale,
            tokens=self._head.tokens,
            chunk_size=places,
        )
        teacher = teacher.to(policy.dtype)
        work = work.to(policy.dtype)
        of_teacher = _log_sum(teacher, work)
        shared = min(policy.shape[1], teacher.shape[1])  # what one of them lacks has no part in Z
        policy, teacher, work = policy[:, :shared], teacher[:, :shared], work[:, :shared]
        together = None
        if self._ends is not None:
            ends = (side[:, self._ends].logsumexp(dim=1) for side in (policy, teacher))
            of_policy_ends, of_teacher_ends = ends
            together = self._alpha * of_policy_ends + (1 - self._alpha) * of_teacher_ends
        mixed = teacher.mul_(1 - self._alpha).add_(policy, alpha=self._alpha)
        if self._ends is not None:
            mixed[:, self._ends] = -torch.inf
        found = _log_sum(mixed, work)
        if together is not None:
            found = torch.logaddexp(found, together)
        return found - (1 - self._alpha) * of_teacher

    def close(self, seen: Tensor | None, normaliser: Tensor) -> None:
        """Finish the places that were seen last.

        Args:
            seen: of `see`.
            normaliser: logsumexp of the policy's logits at each of the places.
        """
        if seen is not None:
            self._parts.append((seen - self._alpha * normaliser[: seen.shape[0]]).clamp_(max=0.0))


def _log_sum(logits: Tensor, work: Tensor) -> Tensor:
    """logsumexp over the last dimension, in a buffer that is there."""
    highest = logits.amax(dim=1, keepdim=True)
    return torch.sub(logits, highest, out=work).exp_().sum(dim=1).log_() + highest.squeeze(1)
