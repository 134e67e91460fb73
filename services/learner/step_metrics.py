"""The record of a finished step and its metrics, out of its numbers and its stage table."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Final

from rlad_core import metrics
from rlad_core.metric_specs import PERCENTILES, STAGES, MetricSpec
from rlad_core.timeline import RecentStages, StageRow
from services.base import telemetry

#: Number in metrics.jsonl -> gauge.
_GAUGES: Final[dict[str, MetricSpec]] = {
    "reward_mean": metrics.RUN_REWARD,
    "accuracy": metrics.RUN_ACCURACY,
    "loss": metrics.RUN_LOSS,
    "kl_to_teacher": metrics.RUN_TEACHER_KL,
    "teacher_log_ratio_clamped_share": metrics.RUN_TEACHER_CLAMPED,
    "clip_fraction_low": metrics.RUN_CLIP_LOW,
    "clip_fraction_high": metrics.RUN_CLIP_HIGH,
    "entropy": metrics.RUN_ENTROPY,
    "staleness": metrics.RUN_STALENESS,
    "staleness_max": metrics.RUN_STALENESS_MAX,
    "learner_idle": metrics.RUN_LEARNER_IDLE,
    "rollout_idle": metrics.RUN_ROLLOUT_IDLE,
    "gradient_norm": metrics.RUN_GRADIENT_NORM,
    "learning_rate": metrics.RUN_LEARNING_RATE,
    "response_length": metrics.RUN_RESPONSE_LENGTH,
    "truncated_share": metrics.RUN_TRUNCATED,
}
_OUTSIDE_A_STEP: Final = ("step", "checkpoint", "evaluation")


#: Nats a token, on average, by the precision of the passes: what two ways of rounding explain.
_MISMATCH: Final = {"float32": 1e-3, "bfloat16": 0.05}


def mismatch_told(numbers: Mapping[str, float], dtype: str) -> str | None:
    """A word on log-probs of engine and learner that differ by more than rounding; None: they do not.

    Args:
        numbers: of a step before which the policy was published.
        dtype: of the passes.
    """
    if (found := numbers.get("mismatch", 0.0)) <= _MISMATCH[dtype]:
        return None
    return (
        f"rollout engine and learner differ by {found:.3g} nats a token on average, and rounding to {dtype} "
        f"explains {_MISMATCH[dtype]:g}: they may not compute the same model, and ratios are off by as much "
        "(mismatch in metrics.jsonl)"
    )


def empty_told(step: int, numbers: Mapping[str, float]) -> str | None:
    """A word on mini-batches that taught nothing; None: all did.

    Args:
        step: of the run, counted from 0.
        numbers: of it.
    """
    if not (empty := int(numbers.get("empty_mini_batches", 0))):
        return None
    which = f"{empty} mini-batches have" if empty > 1 else "a mini-batch has"
    return (
        f"step {step + 1}: {which} no token that counts (all are too old, or of responses that were cut "
        "off), and the policy was not updated there (empty_mini_batches in metrics.jsonl)"
    )


def step_row(
    step: int, stage: str, numbers: Mapping[str, float], table: Sequence[StageRow], *, seconds: float
) -> dict[str, Any]:
    """A step's row of metrics.jsonl.

    Args:
        step: of the run, counted from 0.
        stage: label of the recipe's stage.
        numbers: by their names.
        table: the step's stage table.
        seconds: length of the step.
    """
    row: dict[str, Any] = {
        "step": step,
        "version": step + 1,
        "stage": stage,
        **numbers,
        "seconds": {**{each.stage: each.wall_seconds for each in table}, "step": seconds},
        "shares": {each.stage: each.share for each in table},
    }
    hidden = {each.stage: each.hidden_seconds for each in table}
    if "teacher" in hidden:
        row["teacher_hidden_seconds"] = hidden["teacher"]
    return row


def record_path(path: Mapping[str, float]) -> None:
    """Record what a step waited for (`services.learner.step_times.StepTimes`)."""
    for stage in (*(stage for stage in STAGES if stage not in _OUTSIDE_A_STEP), "idle"):
        telemetry.gauge(metrics.RUN_CRITICAL, path.get(stage, 0.0), stage=stage)


def record_recent(recent: RecentStages, table: Sequence[StageRow], seconds: float) -> None:
    """Record the percentiles of the last steps, the one with this table among them."""
    taken = {row.stage: row.wall_seconds for row in table} | {"step": seconds}
    found = recent.add(taken)
    for stage, percentile in product((*STAGES, "idle"), PERCENTILES):
        labels = {"stage": stage, "percentile": percentile}
        if (stage, percentile) in found:
            telemetry.gauge(metrics.RUN_STAGE_RECENT, found[stage, percentile], **labels)
        else:
            telemetry.forget(metrics.RUN_STAGE_RECENT, **labels)


def record_teacher_cost(devices: float, at_work_s: float, trained_tokens: float) -> None:
    """Record what the teacher took for a step that is trained on what it says, where the run has it itself.

    Args:
        devices: GPUs, or CPU cores, that are reserved for it; 0: nobody knows, and nothing is recorded.
        at_work_s: seconds on the clock in which it worked; none where it had scored all of it before.
        trained_tokens: of the step.
    """
    if trained_tokens and devices:
        telemetry.gauge(metrics.RUN_TEACHER_COST, 1000 * devices * at_work_s / trained_tokens)


def forget_steps() -> None:
    """Say no more what the last step recorded: what one objective has another may not."""
    for spec in (*_GAUGES.values(), metrics.RUN_MISMATCH, metrics.RUN_TEACHER_COST):
        telemetry.forget(spec)


def record_step(
    steps: int, numbers: Mapping[str, float], table: Sequence[StageRow], *, seconds: float, supervised: bool
) -> None:
    """Record a step; once, by rank 0.

    Args:
        steps: finished now.
        numbers: by their names in metrics.jsonl.
        table: the step's stage table.
        seconds: length of the step.
        supervised: what was not trained on was rejected by the verifier, and not uninformative.
    """
    telemetry.gauge(metrics.RUN_STEP, steps)
    for name, spec in _GAUGES.items():
        if name in numbers:
            telemetry.gauge(spec, numbers[name])
    # Engine and learner had the same weights for the tokens that are of the policy's own version.
    mismatch = "mismatch_at_age_0" if "token_share_at_age_0" in numbers else "mismatch"
    if mismatch in numbers:
        telemetry.gauge(metrics.RUN_MISMATCH, numbers[mismatch])
    telemetry.gauge(metrics.RUN_TOKEN_RATE, numbers["trained_tokens"] / seconds)
    rows = {row.stage: row for row in table}
    # A stage that this step did without is 0 now, whatever it was in the step before.
    for stage in (*(stage for stage in STAGES if stage not in _OUTSIDE_A_STEP), "idle"):
        telemetry.gauge(metrics.RUN_STAGE_SHARE, rows[stage].share if stage in rows else 0.0, stage=stage)
        wall = rows[stage].wall_seconds if stage in rows else 0.0
        telemetry.gauge(metrics.RUN_STAGE_LAST, wall, stage=stage)
    telemetry.gauge(metrics.RUN_TEACHER_HIDDEN, rows["teacher"].hidden_seconds if "teacher" in rows else 0.0)
    kind = "rejected" if supervised else "uninformative"
    telemetry.count(metrics.RUN_DROPPED_GROUPS, numbers.get("dropped_groups", 0), kind=kind)
    # What a batch of the task's own demonstrations trains on was never sampled.
    sampled = numbers.get("tokens", numbers["trained_tokens"])
    stale = numbers.get("stale_masked", 0)
    telemetry.count(metrics.RUN_WASTED_TOKENS, sampled - numbers["trained_tokens"] - stale, kind=kind)
    telemetry.count(metrics.RUN_STALE_MASKED, stale)
    telemetry.count(metrics.RUN_EMPTY_MINI_BATCHES, numbers.get("empty_mini_batches", 0))
