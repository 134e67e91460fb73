"""What a recipe may have, so that nothing refuses it, and whoever runs it should know."""

from __future__ import annotations

from collections.abc import Iterator

from rlad_core.config.run import RunConfig


def run_remarks(config: RunConfig) -> list[str]:
    """Sentences for who plans or starts a run of this recipe; see `checks` for what is refused."""
    return list(_uncorrected(config))


def _uncorrected(config: RunConfig) -> Iterator[str]:
    """Stages on tokens of older policies whose objective is not known to weigh them."""
    if not (bound := config.rollout.max_staleness):
        return
    for index, stage in enumerate(config.stages):
        objective = stage.objective
        # Where it is there, and null, the recipe is refused.
        if objective.trains_on_rollouts and not hasattr(objective, "mismatch_cap"):
            yield (
                f"stages.{index}.objective ({objective.label}) has no mismatch_cap: with "
                f"rollout.max_staleness {bound} tokens of older policies count in it as those of the policy "
                "now, unless it weighs them itself. Write max_staleness: 0 to have none (docs/method.md)"
            )
