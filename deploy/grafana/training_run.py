"""Training run: which stage eats the step, and whether the policy learns."""

from deploy.grafana.annotations import OF_RUN
from deploy.grafana.learning import LEARNING
from deploy.grafana.model import Dashboard, Panel, Query, Row, Threshold
from deploy.grafana.quantiles import chosen
from deploy.grafana.run_series import RUN, STEP, gauge
from deploy.grafana.service_panels import ANY
from deploy.grafana.variables import PERCENTILE, TRAINING
from rlad_core import metrics
from rlad_core.metrics import PERCENTILES, RECENT_STEPS, MetricSpec

_CHOSEN = 'percentile="$percentile"'
#: A step that takes so long is told as one that hangs.
_STEP = (Threshold(900, "yellow"), Threshold(1800, "red"))

NOW = Row(
    "Now",
    (
        Panel(
            "Step",
            [gauge(metrics.RUN_STEP)],
            "none",
            "Learner steps that are finished.",
            "It rises with every step.",
            "If it stands still, look at what is in flight below; there is an alert after 30 minutes.",
            kind="stat",
            width=4,
            unjudged="a count; standing still has an alert",
        ),
        Panel(
            "Length of the steps",
            [Query(STEP.mean(metrics.STAGE_SECONDS, metrics.STAGE_DURATION), "{{run}}")],
            "s",
            "Mean length of a step over the time range, from exact seconds.",
            "What the recipe had before, on the same machines.",
            "The next row says which stage became slower.",
            kind="stat",
            width=5,
            thresholds=_STEP,
        ),
        Panel(
            "Held-out accuracy",
            [gauge(metrics.RUN_EVALUATION, "subset")],
            "percentunit",
            "Accuracy on prompts that are not trained on, at the last evaluation.",
            "Higher than before the run, and no lower than at the evaluation before.",
            "If training accuracy rises and this does not, the run overfits or learns the format alone.",
            kind="stat",
            width=10,
            high=1,
            unjudged="what is good is a matter of the task",
        ),
        Panel(
            "Trained tokens",
            [gauge(metrics.RUN_TOKEN_RATE)],
            "short",
            "Response tokens trained on per second of the last step: the run's throughput.",
            "Steady; it falls a little as responses get longer.",
            "A sudden drop is a slower stage or more dropped groups: see the rows below.",
            kind="stat",
            width=5,
            axis="tokens/s",
            unjudged="it depends on the hardware and on the recipe",
        ),
    ),
)

_TIME_PANELS = (
    Panel(
        "Share of the step",
        [gauge(metrics.RUN_STAGE_SHARE, "stage")],
        "percentunit",
        "Where the last step went. A stage's share is the time in which it ran and no earlier stage did, so "
        "the shares add up to the step; `idle` is what no stage accounts for. With `rollout.max_staleness` "
        "above 0, what goes on behind the learner has the time in which the learner waited for it.",
        "Rollout and update have most of it, teacher and verify little: they work behind the rollouts. With "
        "`rollout.max_staleness` above 0, update has nearly all, or rollouts are the slower side.",
        "Give the largest share more devices: replicas, or ranks where it is the learner's. Idle over 10% "
        "is time between processes.",
        width=12,
        stacked=True,
        high=1,
        unjudged="shares of a whole: one is large where another is small",
    ),
    Panel(
        "Latency of each stage, $percentile",
        chosen(RUN, metrics.STAGE_DURATION, "{{run}} {{stage}}", "stage"),
        "s",
        "The chosen percentile of one span of each stage, over the last 30 minutes. Exact to a bucket, which "
        "is up to 1.7 times wide.",
        "Flat lines. p99 of rollout is the longest response of a batch.",
        "A stage that rises alone has lost a replica or shares its machine; rollout, teacher and verify have "
        "dashboards of their own.",
        width=12,
        thresholds=_STEP,
        logarithmic=True,
    ),
    Panel(
        "Stages of the steps",
        [Query(RUN.largest(metrics.RUN_STAGE_LAST, "stage"), "{{run}} {{stage}}")],
        "s",
        "Each stage's time in each step: a row for each stage, darker where it took longer.",
        "Rows of one shade.",
        "A row that darkens is a stage that became slower; a single dark cell is one slow step.",
        kind="heatmap",
        width=12,
        unjudged="what is long is a matter of the recipe; the panel is for seeing change",
    ),
    Panel(
        f"Time of each stage in a step, $percentile of the last {RECENT_STEPS} steps",
        [
            Query(
                f"max by (run, stage) ({RUN.select(metrics.RUN_STAGE_RECENT, _CHOSEN)})", "{{run}} {{stage}}"
            )
        ],
        "s",
        f"The chosen percentile of the time in which each stage ran, over the last {RECENT_STEPS} steps, "
        "however long they take. Exact.",
        "Flat lines; step is the whole.",
        "The stage that rises with the step is the one to look at.",
        width=12,
        thresholds=_STEP,
        logarithmic=True,
    ),
    Panel(
        "Critical path",
        [gauge(metrics.RUN_CRITICAL, "stage")],
        "s",
        "What the last step waited for, from its end back to its start: the stages add up to the step. A "
        "stage that works behind another is not on it. With `rollout.max_staleness` above 0 it is what the "
        "learner did, and for what it waited meanwhile.",
        "Rollout and update; with `rollout.max_staleness` above 0 update alone, where the learner is the "
        "slower side.",
        "The stage with the largest part holds the step up; making another faster changes nothing.",
        width=12,
        stacked=True,
        unjudged="parts of a whole: one is large where another is small",
    ),
    Panel(
        "Cost of the teacher",
        [gauge(metrics.RUN_TEACHER_COST)],
        "s",
        "Seconds reserved of the teacher's GPUs (on CPUs: of as many cores as it has threads) for each "
        "1,000 trained tokens of the last step: the time on the clock in which it worked, times their "
        "number. On cores that others use too it gets less CPU time than that.",
        "Flat, and as in the benchmark.",
        "Rising with a constant time: more tokens are scored and not trained on; see Tokens sampled in vain.",
        width=6,
        axis="device-seconds reserved",
        unjudged="it depends on the teacher and on the hardware",
    ),
    Panel(
        "Stage of the recipe",
        [gauge(metrics.RUN_RECIPE_STAGE)],
        "none",
        "Which of the recipe's stages is trained, from 0; a change is marked in all panels.",
        "It rises where the recipe says.",
        "Numbers of different stages do not compare.",
        kind="stat",
        width=6,
        unjudged="a number that names something",
    ),
    Panel(
        "Mean length of a stage",
        [
            Query(
                RUN.mean(metrics.STAGE_SECONDS, metrics.STAGE_DURATION, "stage"),
                "{{run}} {{stage}}",
            )
        ],
        "s",
        "Mean length of one span of each stage over the time range, from exact seconds. Groups go through "
        "rollout, teacher and verify side by side, so these do not add up to the step.",
        "As in the stage table of the run's report.",
        "See the latency beside it for when it changed.",
        kind="bargauge",
        thresholds=_STEP,
    ),
    Panel(
        "Latency by percentile",
        [Query(RUN.last_quantile(metrics.STAGE_DURATION, p, "stage"), p) for p in PERCENTILES],
        "s",
        "The last p50, p95 and p99 of one span of each stage.",
        "p99 within three times p50; rollout more, since responses differ in length.",
        "A p99 far off is single slow calls: a replica that starts, a garbage collection, a cold cache.",
        kind="table",
        thresholds=_STEP,
    ),
    Panel(
        "Time of the teacher hidden behind rollouts",
        [gauge(metrics.RUN_TEACHER_HIDDEN)],
        "s",
        "Seconds of the last step in which the teacher worked while responses were still being sampled, or, "
        "with `rollout.max_staleness` above 0, while the learner did not wait for it: what overlapping "
        "saves.",
        "Close to all of the teacher's time, that is, its share of the step is near 0.",
        "If it is low while the teacher's share is high, the teacher is too slow for the rollouts: more "
        "replicas, or a larger batch budget.",
        unjudged="as much as the teacher takes is best, which its share tells",
    ),
    Panel(
        "Idle",
        [
            Query(RUN.largest(metrics.RUN_LEARNER_IDLE), "{{run}} learner"),
            Query(RUN.largest(metrics.RUN_ROLLOUT_IDLE), "{{run}} rollout"),
        ],
        "percentunit",
        "Shares of the last step in which the learner waited for its batch, and in which nothing at all was "
        "being sampled. One response is enough for 0 of the latter, also one that waits for a place: it "
        "does not say how many places are in use.",
        "Strictly on-policy the two take turns and add up to about 1. With `rollout.max_staleness` above 0 "
        "learner alone tells the slower side: near 0 it is the learner, high it is rollouts or the teacher "
        "(see Critical path); rollout above 0 says that the engines had nothing left to do.",
        "Learner high with a staleness above 0 while few requests run in the engines, which the dashboard of "
        "rollouts shows: a batch waits for its slowest groups. Raise `max_staleness` or `overtake_window`.",
        high=1,
        unjudged="the sizes of the two sides decide which one waits",
    ),
    Panel(
        "In flight",
        [Query(RUN.total(metrics.STAGE_IN_FLIGHT, "stage"), "{{run}} {{stage}}")],
        "none",
        "Spans that are open: groups being sampled, scored and judged, and the learner's stages.",
        "Up to `rollout.prompts_per_step` groups, and all of them 0 between steps; with "
        "`rollout.max_staleness` above 0 up to (1 + it) times as many, all the time.",
        "What stays open for long is what the run waits for.",
        axis="spans",
        unjudged="`rollout.prompts_per_step` decides what is much",
    ),
    Panel(
        "Waiting",
        [Query(RUN.total(metrics.STAGE_QUEUE, "stage"), "{{run}} {{stage}}")],
        "none",
        "Responses that wait for a stage: for the rest of their step before assemble, for the learner before "
        "update.",
        "Assemble rises through a step and falls to 0; update is 0 strictly on-policy.",
        "Assemble high for long: a few long responses hold up the step, so shorten `max_response_length` or "
        "add rollout replicas. Update high: the learner is the bottleneck.",
        axis="responses",
        unjudged="the size of a step decides what is much",
    ),
    Panel(
        "Errors",
        [
            Query(
                RUN.rate(metrics.STAGE_ERRORS, "stage", "kind"),
                "{{run}} {{stage}} {{kind}}",
                empty_when_well="a run without errors has no such series",
            )
        ],
        "cps",
        "Spans that ended in an exception, by its class.",
        "None at all.",
        "The run's log has the message; BackPressureError and TimeoutError mean that a service is saturated.",
        thresholds=[Threshold(ANY, "red")],
    ),
)
TIME = Row("Where the time of a step goes", _TIME_PANELS)


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

DASHBOARD = Dashboard(
    "rlad-training-run",
    "RLAD / Training run",
    "Which stage eats the step, and whether the policy learns.",
    (TRAINING, PERCENTILE),
    (NOW, TIME, LEARNING, FRESH),
    OF_RUN,
)
