"""Every metric, declared once: name, kind, unit, labels, buckets, help.

Whoever records, documents (`rlad_core.metric_document`) or draws a metric takes it from here. Names follow
Prometheus: base units in the suffix, ``_total`` for counters, ``_ratio`` for shares of 0..1. Ray's agent
exports them with ``ray_`` in front. Label values are few and known beforehand (stages, services, exception
classes): never a text, a prompt or a sequence id.
"""

from typing import Final, get_args

from rlad_core.metric_specs import (
    COUNT_BUCKETS,
    DURATION_BUCKETS,
    RECENT_STEPS,
    TOKEN_BUCKETS,
    Kind,
    LimitKind,
    MetricSpec,
)

_RUN, _RUN_STAGE = ("run",), ("run", "stage")

STAGE_DURATION: Final = MetricSpec(
    "rlad_stage_duration_seconds",
    "histogram",
    "seconds",
    _RUN_STAGE,
    "Time of one span of a stage, failed ones included.",
    DURATION_BUCKETS,
)
STAGE_SECONDS: Final = MetricSpec(
    "rlad_stage_seconds_total",
    "counter",
    "seconds",
    _RUN_STAGE,
    "Time spent in a stage, exactly (the histogram's sum is rebuilt from its buckets under Ray).",
)
STAGE_ITEMS: Final = MetricSpec(
    "rlad_stage_items_total",
    "counter",
    "items",
    _RUN_STAGE,
    "What a stage finished: sequences, or what its name says (steps, weight hand-overs, checkpoints).",
)
STAGE_TOKENS: Final = MetricSpec(
    "rlad_stage_tokens_total",
    "counter",
    "tokens",
    _RUN_STAGE,
    "Tokens that a stage finished: generated, scored, or trained on.",
)
STAGE_IN_FLIGHT: Final = MetricSpec(
    "rlad_stage_in_flight", "gauge", "spans", _RUN_STAGE, "Spans of a stage that are open now."
)
STAGE_QUEUE: Final = MetricSpec(
    "rlad_stage_queue_length", "gauge", "items", _RUN_STAGE, "Items that wait for a stage to take them."
)
STAGE_ERRORS: Final = MetricSpec(
    "rlad_stage_errors_total",
    "counter",
    "errors",
    ("run", "stage", "kind"),
    "Spans of a stage that ended in an exception; kind is its class.",
)


def _of_run(name: str, unit: str, text: str, *more_labels: str) -> MetricSpec:
    return MetricSpec(f"rlad_run_{name}", "gauge", unit, (*_RUN, *more_labels), text)


def _of_run_total(name: str, unit: str, text: str, *more_labels: str) -> MetricSpec:
    return MetricSpec(f"rlad_run_{name}_total", "counter", unit, (*_RUN, *more_labels), text)


RUN_STEP: Final = _of_run("step", "steps", "Number of the last finished learner step.")
RUN_REWARD: Final = _of_run("reward_mean", "reward", "Mean reward of the step's responses.")
RUN_ACCURACY: Final = _of_run("accuracy_ratio", "ratio", "Share of the step's responses that are right.")
RUN_EVALUATION: Final = _of_run(
    "evaluation_accuracy_ratio", "ratio", "Accuracy on held-out prompts at the last evaluation.", "subset"
)
RUN_LOSS: Final = _of_run("loss", "loss", "The objective's loss, averaged over the step's updates.")
RUN_TEACHER_KL: Final = _of_run(
    "teacher_kl_nats", "nats", "Mean of log pi_theta - log pi_T over the trained tokens: KL(policy, teacher)."
)
RUN_TEACHER_CLAMPED: Final = _of_run(
    "teacher_clamped_ratio", "ratio", "Share of trained tokens whose teacher log-ratio was clamped."
)
RUN_CLIP_LOW: Final = _of_run(
    "clip_low_ratio",
    "ratio",
    "Share of trained tokens without gradient because their ratio is under 1 - eps_low.",
)
RUN_CLIP_HIGH: Final = _of_run(
    "clip_high_ratio",
    "ratio",
    "Share of trained tokens without gradient because their ratio is over 1 + eps_high.",
)
RUN_ENTROPY: Final = _of_run("entropy_nats", "nats", "Mean entropy of the policy per trained token.")
RUN_STALENESS: Final = _of_run(
    "staleness_versions",
    "versions",
    "Mean number of policy versions between a trained token's making and its use.",
)
RUN_STALENESS_MAX: Final = _of_run(
    "staleness_max_versions", "versions", "Largest number of policy versions that a trained token was behind."
)
RUN_STALE_MASKED: Final = _of_run_total(
    "stale_masked_tokens", "tokens", "Response tokens of trained groups that were too old to count."
)
RUN_EMPTY_MINI_BATCHES: Final = _of_run_total(
    "empty_mini_batches",
    "mini-batches",
    "Mini-batches in which no token counts, too old or cut off: the policy is not updated with them.",
)
RUN_LEARNER_IDLE: Final = _of_run(
    "learner_idle_ratio", "ratio", "Share of the last step in which the learner waited for its batch."
)
RUN_ROLLOUT_IDLE: Final = _of_run(
    "rollout_idle_ratio",
    "ratio",
    "Share of the last step in which nothing at all was sampled or waited for a place; one response is "
    "enough for 0.",
)
RUN_MISMATCH: Final = _of_run(
    "mismatch_nats",
    "nats",
    "Mean absolute difference of the log-probs of engine and learner of trained tokens, same weights.",
)
RUN_GRADIENT_NORM: Final = _of_run("gradient_norm", "norm", "Norm of the gradient before clipping.")
RUN_LEARNING_RATE: Final = _of_run("learning_rate", "per step", "Learning rate of the last update.")
RUN_RESPONSE_LENGTH: Final = _of_run(
    "response_length_tokens", "tokens", "Mean length of the step's responses."
)
RUN_TRUNCATED: Final = _of_run(
    "truncated_ratio", "ratio", "Share of the step's responses cut off by the length limit."
)
RUN_TOKEN_RATE: Final = _of_run(
    "tokens_per_second", "tokens per second", "Response tokens trained on per second of the last step."
)
RUN_STAGE_SHARE: Final = _of_run(
    "stage_share_ratio",
    "ratio",
    "Share of the last step in which a stage ran and no earlier one did, and, where groups are sampled "
    "ahead, the learner waited for it; `idle` is the rest of the step.",
    "stage",
)
RUN_STAGE_LAST: Final = _of_run(
    "stage_last_seconds",
    "seconds",
    "Time of the last step in which a stage ran; `idle` is what no stage's share accounts for.",
    "stage",
)
RUN_STAGE_RECENT: Final = _of_run(
    "stage_recent_seconds",
    "seconds",
    f"Percentile of the time in which a stage ran, over the last {RECENT_STEPS} steps.",
    "stage",
    "percentile",
)
RUN_CRITICAL: Final = _of_run(
    "critical_seconds",
    "seconds",
    "Time of the last step that waited for a stage: what a faster one would have saved, at most.",
    "stage",
)
RUN_TEACHER_COST: Final = _of_run(
    "teacher_cost_seconds",
    "seconds",
    "Devices reserved for the teacher (GPUs, or its threads as CPU cores) times the time on the clock in "
    "which it worked, for each 1,000 trained tokens of the last step; no CPU time.",
)
RUN_RECIPE_STAGE: Final = _of_run("recipe_stage", "stages", "Number of the recipe's stage, from 0.")
RUN_PLANNED_MEMORY: Final = _of_run(
    "planned_memory_bytes",
    "bytes",
    "What `rlad plan` counts for one process of a role, on its GPU, or on the host where it has none.",
    "role",
)
RUN_LEARNER_MEMORY: Final = _of_run(
    "learner_memory_bytes",
    "bytes",
    "Most that the learner's first process has held so far: on its GPU, or on the host where it has none.",
)
RUN_TEACHER_HIDDEN: Final = _of_run(
    "teacher_hidden_seconds",
    "seconds",
    "Time of the last step in which the teacher worked behind rollouts, or behind the learner.",
)
RUN_POLICY_VERSION: Final = _of_run(
    "policy_version", "versions", "Policy version that a rollout replica serves.", "rank"
)
RUN_LEARNER_VERSION: Final = _of_run(
    "learner_policy_version", "versions", "Policy version that the learner published last."
)
RUN_DROPPED_GROUPS: Final = _of_run_total(
    "dropped_groups", "groups", "Groups not trained on; kind is uninformative or rejected.", "kind"
)
RUN_WASTED_TOKENS: Final = _of_run_total(
    "wasted_tokens",
    "tokens",
    "Response tokens sampled and not trained on; kind is uninformative or rejected.",
    "kind",
)

_SERVICE = ("run", "service")


def _of_service(name: str, kind: Kind, unit: str, text: str, *more_labels: str) -> MetricSpec:
    buckets = {"seconds": DURATION_BUCKETS, "tokens": TOKEN_BUCKETS}.get(unit, COUNT_BUCKETS)
    return MetricSpec(
        f"rlad_service_{name}",
        kind,
        unit,
        (*_SERVICE, *more_labels),
        text,
        buckets if kind == "histogram" else (),
    )


SERVICE_REQUESTS: Final = _of_service(
    "requests_total",
    "counter",
    "requests",
    "Calls, refused ones too; kind is handle, json, arrow, or other for what was refused unread.",
    "kind",
)
SERVICE_SEQUENCES: Final = _of_service("sequences_total", "counter", "sequences", "Sequences answered.")
SERVICE_TOKENS: Final = _of_service(
    "tokens_total", "counter", "tokens", "Tokens handled; kind is prompt, scored or generated.", "kind"
)
SERVICE_DURATION: Final = _of_service(
    "request_duration_seconds", "histogram", "seconds", "Time from taking a call to its answer."
)
SERVICE_SECONDS: Final = _of_service(
    "request_seconds_total", "counter", "seconds", "Time from taking a call to its answer, summed exactly."
)
SERVICE_PHASE_DURATION: Final = _of_service(
    "phase_duration_seconds", "histogram", "seconds", "Time that a call spent in one phase.", "phase"
)
SERVICE_PHASE_SECONDS: Final = _of_service(
    "phase_seconds_total", "counter", "seconds", "Time that calls spent in one phase, exactly.", "phase"
)
SERVICE_BATCH_SEQUENCES: Final = _of_service(
    "batch_sequences", "histogram", "sequences", "Sequences in one batch given to the engine."
)
SERVICE_BATCH_TOKENS: Final = _of_service(
    "batch_tokens", "histogram", "tokens", "Tokens in one batch given to the engine."
)
SERVICE_IN_FLIGHT: Final = _of_service("in_flight", "gauge", "requests", "Calls taken and not yet answered.")
SERVICE_QUEUE: Final = _of_service(
    "queue_length", "gauge", "sequences", "Sequences that wait for a place in a batch."
)
SERVICE_CALLS_QUEUE: Final = _of_service(
    "calls_queue_limit",
    "gauge",
    "requests",
    "Calls that may wait in each queue of Serve's before this service's replicas; more are refused.",
)
SERVICE_CALLERS: Final = _of_service(
    "callers_waiting", "gauge", "callers", "Callers with something that waits for the engine or a worker."
)
SERVICE_ERRORS: Final = _of_service(
    "errors_total",
    "counter",
    "errors",
    "Calls that failed; kind is the exception's class. Of the verifier also checks without a verdict: kind "
    "is error or crash.",
    "kind",
)
SERVICE_LIMITS: Final = _of_service(
    "limits_hit_total",
    "counter",
    "requests",
    f"Calls refused or checks killed at a limit; kind names the limit ({', '.join(get_args(LimitKind))}).",
    "kind",
)

#: All metrics, by name, in the order above.
METRICS: Final[dict[str, MetricSpec]] = {
    value.name: value for value in list(globals().values()) if isinstance(value, MetricSpec)
}
