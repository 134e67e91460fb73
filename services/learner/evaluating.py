"""The policy on the held-out prompts, while and after it is trained."""

from __future__ import annotations

import torch.distributed as dist

from rlad_core import metrics
from rlad_core.evaluation import overall
from services.base import telemetry
from services.learner.actors import Actors
from services.learner.publishing import Publishing


class Evaluations:
    """Of one rank.

    Args:
        actors: the evaluator measures, the journal records.
        publishing: what is evaluated is published before.
    """

    def __init__(self, actors: Actors, publishing: Publishing, rank: int) -> None:
        self._actors = actors
        self._publishing = publishing
        self._rank = rank
        self._last: tuple[int, float] | None = None

    def evaluate(self, when: str, step: int) -> None:
        """Measure accuracy on the held-out prompts (rank 0; the others wait at the next collective call)."""
        self._publishing.wait()
        if self._rank == 0:
            actors = self._actors
            actors.journal.note.remote(f"evaluating policy version {step} on the held-out prompts")
            rows = actors.ask(
                actors.evaluator.evaluate.remote(step), f"the evaluation of policy version {step}"
            )
            # The responses go from the one actor to the other, not through this process.
            told = actors.journal.evaluation.remote(when, step, rows, actors.evaluator.answers.remote())
            actors.ask(told, f"the record of the evaluation of policy version {step}")
            for row in rows:
                telemetry.gauge(metrics.RUN_EVALUATION, row.accuracy, subset=row.subset)
            self._last = step, overall(rows)
        dist.barrier()

    def score(self, steps: int) -> float | None:
        """Accuracy over all held-out prompts of the policy after so many steps; None: it was not measured."""
        if self._last is None or self._last[0] != steps:
            return None
        return self._last[1]
