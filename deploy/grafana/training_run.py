"""Training run: which stage eats the step, and whether the policy learns."""

from deploy.grafana.annotations import OF_RUN
from deploy.grafana.freshness import FRESH
from deploy.grafana.learning import LEARNING
from deploy.grafana.model import Dashboard, Panel, Query, Row
from deploy.grafana.run_series import STEP, gauge
from deploy.grafana.step_time import LONG, TIME
from deploy.grafana.variables import PERCENTILE, TRAINING
from rlad_core import metrics

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
            thresholds=LONG,
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

DASHBOARD = Dashboard(
    "rlad-training-run",
    "RLAD / Training run",
    "Which stage eats the step, and whether the policy learns.",
    (TRAINING, PERCENTILE),
    (NOW, TIME, LEARNING, FRESH),
    OF_RUN,
)
