"""Teacher scoring: how fast, how full, how often not."""

from deploy.grafana.model import Dashboard, Panel, Query, Row, Threshold
from deploy.grafana.quantiles import percentiles
from deploy.grafana.service_panels import ServicePanels
from rlad_core import metrics

_PANELS = ServicePanels(
    "teacher",
    "TeacherService",
    "add replicas, or raise `max_tokens_per_batch` where memory allows",
    slow_s=60,
    limit_s=600,
)
_SCOPE = _PANELS.scope

_BATCHES = (
    Panel(
        "Tokens in a batch",
        percentiles(_SCOPE, metrics.SERVICE_BATCH_TOKENS, "{{application}}"),
        "none",
        "Percentiles of the tokens in one batch given to the engine, a shared prompt counted once.",
        "p95 near `max_tokens_per_batch` while there is a queue.",
        "Small batches with a queue: single sequences are so long that they do not fit together; raise the "
        "budget.",
        axis="tokens",
        unjudged="`max_tokens_per_batch` decides what is much",
    ),
    Panel(
        "Sequences in a batch",
        percentiles(_SCOPE, metrics.SERVICE_BATCH_SEQUENCES, "{{application}}"),
        "none",
        "Percentiles of the sequences in one batch.",
        "A group's size or more.",
        "1 all the time: callers send one sequence a call; send groups.",
        axis="sequences",
        base="yellow",
        thresholds=[Threshold(2, "green")],
    ),
    Panel(
        "Sequences waiting for a batch",
        [Query(_SCOPE.total(metrics.SERVICE_QUEUE, "replica"), "{{application}} {{replica}}")],
        "none",
        "Sequences that wait in each replica for a place in a batch.",
        "It returns to 0 with every step.",
        "Never at 0: the teacher is slower than those who ask it; add replicas.",
        axis="sequences",
        thresholds=[Threshold(1000, "yellow"), Threshold(4000, "red")],
    ),
    Panel(
        "Callers waiting",
        [Query(_SCOPE.total(metrics.SERVICE_CALLERS, "replica"), "{{application}} {{replica}}")],
        "none",
        "Callers with something that waits in a replica; they get turns of equal size in tokens.",
        "0 or 1 in a run of its own.",
        "Several all the time: each gets its share alone; add replicas, or give callers a quota.",
        axis="callers",
        unjudged="how many share a teacher is their choice",
    ),
)

DASHBOARD = Dashboard(
    "rlad-teacher-scoring",
    "RLAD / Teacher scoring",
    "How fast the teacher scores, what it waits for, and what fails.",
    _PANELS.variables,
    (
        Row("Rate", (_PANELS.calls(), _PANELS.tokens("scored"), _PANELS.sequences())),
        Row("Latency", (_PANELS.latency(), _PANELS.phases(), _PANELS.phase_means())),
        Row("Batches", _BATCHES),
        Row("Saturation", (_PANELS.in_flight(), _PANELS.serve_queue(), _PANELS.limits())),
        Row("Errors", (_PANELS.errors(), _PANELS.error_share())),
    ),
)
