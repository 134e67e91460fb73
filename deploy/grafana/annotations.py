"""What happened to a run, as lines in every panel: checkpoints, evaluations, hand-overs, restarts, stages."""

from deploy.grafana.model import Annotation, Color
from deploy.grafana.promql import exported
from deploy.grafana.run_series import RUN
from rlad_core import metrics


def _finished(stage: str, what: str, color: Color) -> Annotation:
    """A stage of the learner's came to an end; the first value of a counter counts from 0."""
    series = RUN.select(metrics.STAGE_ITEMS, f'stage="{stage}"')
    now, before = f"sum by (run) ({series})", f"sum by (run) ({series} offset 15s)"
    return Annotation(what, f"({now} - ({before} or {now} * 0)) > 0", f"{{{{run}}}}: {what.lower()}", color)


_STEP = RUN.select(metrics.RUN_STEP)
_BEFORE = f"max_over_time({exported(metrics.RUN_STEP)}[1h] offset 1m)"
_STAGE = RUN.largest(metrics.RUN_RECIPE_STAGE)

OF_RUN = (
    _finished("checkpoint", "Checkpoint", "green"),
    _finished("evaluation", "Evaluation", "yellow"),
    _finished("weight_sync", "Weights handed over", "orange"),
    # A process that counts for a run which another one counted for before.
    Annotation(
        "Restart",
        f"count by (run) ({_STEP} unless on (run, WorkerId) {_BEFORE}) "
        f"and on (run) count by (run) ({_BEFORE})",
        "{{run}}: the learner was started again",
        "red",
    ),
    Annotation(
        "Stage of the recipe",
        f"({_STAGE} - ({_STAGE} offset 15s)) > 0",
        "{{run}}: the next stage of the recipe",
        "yellow",
    ),
)
