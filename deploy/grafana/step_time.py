"""Training run's panels of where the time of a step goes."""

from deploy.grafana.model import Panel, Query, Row, Threshold
from deploy.grafana.quantiles import chosen
from deploy.grafana.run_series import RUN, gauge
from deploy.grafana.service_panels import ANY
from rlad_core import metrics
from rlad_core.metric_specs import PERCENTILES, RECENT_STEPS

#: A step that takes so long is told as one that hangs.
LONG = (Threshold(900, "yellow"), Threshold(1800, "red"))
_CHOSEN = 'percentile="$percentile"'

_PANELS = (
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
        thresholds=LONG,
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
        thresholds=LONG,
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
        thresholds=LONG,
    ),
    Panel(
        "Latency by percentile",
        [Query(RUN.last_quantile(metrics.STAGE_DURATION, p, "stage"), p) for p in PERCENTILES],
        "s",
        "The last p50, p95 and p99 of one span of each stage.",
        "p99 within three times p50; rollout more, since responses differ in length.",
        "A p99 far off is single slow calls: a replica that starts, a garbage collection, a cold cache.",
        kind="table",
        thresholds=LONG,
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
TIME = Row("Where the time of a step goes", _PANELS)
