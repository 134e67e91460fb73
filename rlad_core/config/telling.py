"""What a run tells, and where it writes."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from rlad_core.sections.base import LONGEST_WAIT_S, Section
from rlad_core.sections.paths import OutputFolder, StoragePlace
from rlad_core.sections.resume import Free

TrackerName = Literal["wandb", "mlflow", "trackio"]


class TelemetryConfig(Section):
    """What a run tells while it runs."""

    metrics_port: Free[Annotated[int, Field(ge=1024, le=65535)] | None] = Field(
        default=None,
        description="Port of an embedded Ray's Prometheus metrics, for this machine only; null: a free one.",
    )
    linger_s: Free[NonNegativeFloat] = Field(
        default=0.0,
        le=LONGEST_WAIT_S,
        description="Seconds that a learner that is done stays, so that Prometheus gets its last numbers: "
        "Ray hands them on every 10 s, and Prometheus asks at its own interval.",
    )
    log_level: Free[Literal["DEBUG", "INFO", "WARNING", "ERROR"]] = "INFO"
    traces: Free[bool] = Field(
        default=True,
        description="OpenTelemetry spans of every step, from its prompts to the new weights: to the "
        "collector that OTEL_EXPORTER_OTLP_ENDPOINT names, else to RUN/traces, which `rlad trace` draws.",
    )
    keep_experience: Free[Literal["all", "sampled", "none"]] = Field(
        default="sampled",
        description="all: every step's whole experience, which `rlad learn` trains on again; sampled: some "
        "rows of some steps.",
    )
    sample_experience_every: Free[NonNegativeInt] = Field(
        default=10, description="Steps between samples; 0: never."
    )
    sample_experience_rows: Free[PositiveInt] = 64
    trackers: Free[tuple[TrackerName, ...]] = Field(
        default=(),
        strict=False,
        description="Experiment trackers that are told the numbers of steps and evaluations, beside "
        "TensorBoard; those that are not installed, or fail, are left out with a word.",
    )
    project: Free[str] = Field(default="rlad", min_length=1, description="As the trackers call it.")


class OutputConfig(Section):
    """Where a run writes: ``dir/NAME/``."""

    dir: Free[OutputFolder] = "runs"
    checkpoints: Free[StoragePlace | None] = Field(
        default=None,
        description="A folder or an address of fsspec (s3://bucket/runs) for checkpoints, under the run's "
        "name; null: the run's folder.",
    )
    keep_checkpoints: Free[PositiveInt] = Field(default=2, description="Of the last ones.")
    keep_best: Free[NonNegativeInt] = Field(
        default=0, description="Also so many of those with the best accuracy on the held-out prompts."
    )
