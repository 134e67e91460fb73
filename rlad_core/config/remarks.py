"""What a recipe may have, so nothing refuses it, but whoever runs it should know of."""

from __future__ import annotations

from collections.abc import Iterator

from rlad_core.config.run import RunConfig


def run_remarks(config: RunConfig) -> list[str]:
    """Sentences for who plans or starts a run of this recipe; see `checks` for what is refused."""
    return [*_uncorrected(config), *_without_effect(config), *_slow_on_gpus(config)]


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


def _without_effect(config: RunConfig) -> Iterator[str]:
    """Stages whose objective differs from GRPO only after a batch's first update, where that is all."""
    if config.learner.updates_per_batch * config.learner.epochs_per_batch > 1:
        return
    for index, stage in enumerate(config.stages):
        if stage.objective.kind == "gspo":
            yield (
                f"stages.{index}.objective (gspo): with one update a batch its ratio is 1 and it is GRPO. "
                "Write learner.updates_per_batch: 2 or more for the ratio of a response to count"
            )


def _slow_on_gpus(config: RunConfig) -> Iterator[str]:
    """Roles on GPUs that compute with 4 bytes a value, for which there is no reason but the default."""
    on_gpus = {"policy": (config.policy.dtype, config.rollout.num_gpus or config.learner.num_gpus)}
    on_gpus |= {place: (each.dtype, each.num_gpus) for place, each in config.served_teachers.items()}
    for place, (dtype, gpus) in on_gpus.items():
        if dtype == "float32" and gpus:
            yield (
                f"{place}.dtype is float32 on a GPU: twice the bytes of bfloat16, and on an H100 a fifteenth "
                f"of its operations a second. Write {place}.dtype: bfloat16"
            )
