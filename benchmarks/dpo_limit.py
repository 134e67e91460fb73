"""Prints how TRRD's gradient relates to DPO's: appendix C of the paper, in numbers.

    python -m benchmarks.dpo_limit

A pair is a better response (A = +1) and a worse one (A = -1), sampled from a teacher of random logits. A
policy at distance d from it has the teacher's logits plus d times other random ones; KL is its divergence
from the teacher at a place, in nats. In the first table the policy goes away and is the old policy too, as at
the first update of a step; in the second the policy is the teacher, and the old policy goes away.

Compared are gradients with respect to the policy's logits: that of TRRD's loss, summed over tokens, without
clip and clamp, and that of DPO's with the teacher as reference, times 2 / beta. Cells are means over the
pairs: cosine of the two / length of TRRD's over that of DPO's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlad_core.objectives import TokenBatch
from rlad_core.objectives.trrd import TRRD

ALPHAS = (0.5, 0.1, 0.0)
DISTANCES = (0.0, 0.1, 0.3, 1.0, 2.0)
BETA = 0.1
VOCABULARY, LENGTH, PAIRS = 50, 20, 100


@dataclass(frozen=True)
class Pair:
    """Two responses, the better one first.

    teacher, away: logits at each place, [2, LENGTH, VOCABULARY]. targets: the tokens, [2, LENGTH].
    """

    teacher: Tensor
    away: Tensor
    targets: Tensor

    def policy(self, distance: float) -> Tensor:
        """Logits of a policy, [2, LENGTH, VOCABULARY]."""
        return self.teacher + distance * self.away

    def logprobs(self, logits: Tensor) -> Tensor:
        """Of the responses' tokens, [2, LENGTH]."""
        return logits.log_softmax(-1).gather(2, self.targets[:, :, None]).squeeze(2)


@dataclass(frozen=True)
class Row:
    """Means over the pairs.

    distance, kl: of the one that goes away from the teacher. cosines, lengths: by alpha.
    """

    distance: float
    kl: float
    cosines: tuple[float, ...]
    lengths: tuple[float, ...]


def pairs() -> Iterator[Pair]:
    """Random ones, always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, LENGTH, VOCABULARY)
    for _ in range(PAIRS):
        teacher, away = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        sampled = torch.multinomial(teacher.softmax(-1).flatten(0, 1), 1, generator=generator)
        yield Pair(teacher, away, sampled.view(2, LENGTH))


def trrd_gradient(pair: Pair, distance: float, old: float, alpha: float) -> Tensor:
    """With respect to the policy's logits, [2, LENGTH, VOCABULARY].

    Args:
        distance, old: of policy and old policy from the teacher.
    """
    unbounded = TRRD(alpha=alpha, teacher_clamp=None, eps_low=1 - 1e-12, eps_high=1e12, mismatch_cap=None)
    policy = pair.policy(distance).requires_grad_()
    before = pair.logprobs(pair.policy(old)).flatten()
    batch = TokenBatch(
        policy_logprobs=pair.logprobs(policy).flatten(),
        old_logprobs=before,
        rollout_logprobs=before,
        advantages=torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(LENGTH),
        weights=torch.ones_like(before),
        teacher_logprobs=pair.logprobs(pair.teacher).flatten(),
    )
    (gradient,) = torch.autograd.grad(unbounded(batch, 0).loss, policy)
    return gradient


def dpo_gradient(pair: Pair, distance: float) -> Tensor:
    """With respect to the policy's logits and times 2 / beta, [2, LENGTH, VOCABULARY]."""
    policy = pair.policy(distance).requires_grad_()
    better, worse = (pair.logprobs(policy) - pair.logprobs(pair.teacher)).sum(dim=1)
    loss = -torch.nn.functional.logsigmoid(BETA * (better - worse))
    (gradient,) = torch.autograd.grad(loss, policy)
    return gradient * 2 / BETA


def rows(*, policy_moves: bool) -> list[Row]:
    """One for each distance.

    Args:
        policy_moves: away from the teacher, and is the old policy too; else the old policy alone does.
    """
    drawn = list(pairs())
    return [_row(drawn, distance if policy_moves else 0.0, distance) for distance in DISTANCES]


def _row(drawn: Sequence[Pair], distance: float, old: float) -> Row:
    dpo = [dpo_gradient(pair, distance) for pair in drawn]
    compared = [
        [
            _compared(trrd_gradient(pair, distance, old, alpha), other)
            for pair, other in zip(drawn, dpo, strict=True)
        ]
        for alpha in ALPHAS
    ]
    cosines, lengths = torch.tensor(compared, dtype=torch.float64).mean(dim=1).T.tolist()
    kl = sum(_kl(pair.policy(old), pair.teacher) for pair in drawn) / len(drawn)
    return Row(old, kl, tuple(cosines), tuple(lengths))


def _compared(one: Tensor, other: Tensor) -> tuple[float, float]:
    """Cosine, and the length of the one over that of the other."""
    cosine = torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0)
    return float(cosine), float(one.norm() / other.norm())


def _kl(policy: Tensor, teacher: Tensor) -> float:
    logprobs = policy.log_softmax(-1)
    return float((logprobs.exp() * (logprobs - teacher.log_softmax(-1))).sum(-1).mean())


def table(what: str, found: Sequence[Row]) -> str:
    """In Markdown.

    Args:
        what: goes away from the teacher.
    """
    heads = [f"distance of {what}", "KL", *(f"alpha = {alpha:g}" for alpha in ALPHAS)]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in found:
        both = [f"{c:.3f} / {s:.2f}" for c, s in zip(row.cosines, row.lengths, strict=True)]
        lines.append(f"| {' | '.join([f'{row.distance:g}', f'{row.kl:.3f}', *both])} |")
    return "\n".join(lines)


def tables(away: Sequence[Row], old: Sequence[Row]) -> str:
    """Both, with an empty line between them: of the policy, and of the old policy alone."""
    return f"{table('pi_theta = pi_old from pi_T', away)}\n\n{table('pi_old from pi_theta = pi_T', old)}"


def main() -> None:
    """Print the tables."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    print(tables(rows(policy_moves=True), rows(policy_moves=False)))


if __name__ == "__main__":
    main()
