"""How many jobs a service keeps, how large they may be, and for how long. Imports no Ray."""

from pydantic import BaseModel, ConfigDict, Field


class JobLimits(BaseModel):
    """What jobs may take; all replicas that share a ``jobs_dir`` count together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_jobs: int = Field(default=1000, gt=0, description="Kept at a time, finished ones included.")
    max_jobs_per_caller: int = Field(default=100, gt=0, description="Kept at a time for one caller.")
    max_gib: float = Field(
        default=10.0,
        gt=0,
        description="Of all requests, finished parts and answers; of one caller seven times what is left.",
    )
    requests_per_job: int = Field(
        default=64,
        gt=0,
        description="A job may have so many times the sequences, tokens and hidden states of a request.",
    )
    at_a_time: int = Field(default=2, gt=0, description="Jobs that one replica works on.")
    turn_s: float = Field(
        default=10.0,
        ge=0,
        description="After so long, and a whole part, a job makes way for one of a caller who has had less.",
    )
    timeout_s: float = Field(default=86_400.0, gt=0, description="From its submission until it must be done.")
    keep_s: float = Field(
        default=604_800.0, gt=0, description="How long a finished one can be fetched; then it is removed."
    )
