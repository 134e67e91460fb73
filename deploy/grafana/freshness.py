"""Training run's panels of how old the data are, and of what is thrown away."""

from deploy.grafana.model import Panel, Query, Row, Threshold
from deploy.grafana.run_series import RUN, gauge
from rlad_core import metrics
from rlad_core.metric_specs import MetricSpec


def _dropped(metric: MetricSpec) -> Query:
    return Query(
        RUN.grown(metric, "kind"),
        "{{run}} {{kind}}",
        empty_when_well="a short run may have dropped nothing",
    )


FRESH = Row(
    "How fresh the data are, and what is thrown away",
    (
        Panel(
            "Staleness",
            [
                Query(RUN.largest(metrics.RUN_STALENESS), "{{run}} mean"),
                Query(RUN.largest(metrics.RUN_STALENESS_MAX), "{{run}} largest"),
            ],
            "none",
            "Policy versions between the making of a trained token and its use.",
            "0 strictly on-policy; never more than `rollout.max_staleness`.",
            "More than that is a bug.",
            axis="versions",
            unjudged="`rollout.max_staleness` decides what is much",
        ),
        Panel(
            "Mismatch of engine and learner",
            [gauge(metrics.RUN_MISMATCH)],
            "none",
            "Mean absolute difference of the log-probs of a trained token in the engine and in the learner, "
            "with the same weights: with `rollout.max_staleness` above 0, over tokens of the newest version.",
            "Under 1e-4 in float32, under 0.02 in bfloat16.",
            "A jump after a hand-over means that a replica holds other weights than it says; stop the run.",
            axis="nats",
            thresholds=[Threshold(0.02, "yellow"), Threshold(0.1, "red")],
        ),
        Panel(
            "Policy versions",
            [
                Query(RUN.largest(metrics.RUN_LEARNER_VERSION), "{{run}} learner"),
                Query(RUN.largest(metrics.RUN_POLICY_VERSION, "rank"), "{{run}} replica {{rank}}"),
            ],
            "none",
            "The version that the learner published last, and the one that each rollout replica serves.",
            "All lines are one, but for the moment of a hand-over.",
            "A replica that stays behind cannot load weights: its log says why. Restart it.",
            axis="version",
            unjudged="versions only rise; one that stays behind has an alert",
        ),
        Panel(
            "Tokens sampled in vain",
            [_dropped(metrics.RUN_WASTED_TOKENS)],
            "short",
            "Response tokens of the time range that were sampled and not trained on.",
            "Under a third of all: groups in which all responses are right, or all are wrong, teach nothing.",
            "Choose prompts of another difficulty, or larger groups.",
            kind="bargauge",
            width=6,
            axis="tokens",
            unjudged="a count; its share of all is what matters",
        ),
        Panel(
            "Tokens too old to count",
            [
                Query(
                    RUN.grown(metrics.RUN_STALE_MASKED),
                    "{{run}}",
                    empty_when_well="strictly on-policy no token is old",
                )
            ],
            "short",
            "Response tokens of the time range that were older than `rollout.max_staleness` when their "
            "group was trained on: they have weight 0.",
            "None strictly on-policy; else a few hundredths of all.",
            "More: responses take longer than so many steps. Raise `max_staleness`, or add rollout replicas.",
            kind="bargauge",
            width=6,
            axis="tokens",
            unjudged="a count; its share of all is what matters",
        ),
        Panel(
            "Mini-batches without an update",
            [
                Query(
                    RUN.grown(metrics.RUN_EMPTY_MINI_BATCHES),
                    "{{run}}",
                    empty_when_well="nearly every mini-batch has tokens that count",
                )
            ],
            "short",
            "Mini-batches of the time range in which no token counts: all were too old, or of responses that "
            "were cut off. The policy stays as it is there.",
            "None.",
            "See Tokens too old to count, and Truncated; or lower `learner.updates_per_batch`.",
            kind="bargauge",
            width=6,
            axis="mini-batches",
            unjudged="a count; its share of all is what matters",
        ),
        Panel(
            "Groups dropped",
            [_dropped(metrics.RUN_DROPPED_GROUPS)],
            "short",
            "Groups of the time range that were not trained on.",
            "Under a third of all.",
            "See Tokens sampled in vain.",
            kind="bargauge",
            width=6,
            axis="groups",
            unjudged="a count; its share of all is what matters",
        ),
        Panel(
            "Work done by each stage",
            [Query(RUN.rate(metrics.STAGE_TOKENS, "stage"), "{{run}} {{stage}}")],
            "short",
            "Tokens that each stage finished a second.",
            "Equal over a step for rollout, teacher and update.",
            "A stage with fewer has failed calls, or does without some of the data.",
            axis="tokens/s",
            width=6,
            unjudged="it depends on the hardware and on the recipe",
        ),
        Panel(
            "Items done by each stage",
            [Query(RUN.rate(metrics.STAGE_ITEMS, "stage"), "{{run}} {{stage}}")],
            "short",
            "Sequences that each stage finished a second.",
            "Equal over a step for rollout, teacher, verify and update.",
            "See Errors.",
            axis="sequences/s",
            width=6,
            unjudged="it depends on the hardware and on the recipe",
        ),
    ),
)
