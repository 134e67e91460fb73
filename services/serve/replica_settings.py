"""What all services are started with, beside their own settings."""

import hashlib
import ipaddress
import json
import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from rlad_core.config import ReplicaSettings
from rlad_core.metric_specs import SHARED
from services.serve.job_limits import JobLimits
from services.serve.quotas import Quota

SPARE_PLACES = 256
"""Beside those for work, so that a request for health never waits for one."""
_TIMES_THE_PLACES = 4
ServedName = Annotated[
    str, Field(min_length=1, description="What the API calls the model; by default as in `model`.")
]


_TOKEN = re.compile(r"token:[0-9a-f]{12}")  # see `services.serve.http.callers.caller_of`


class Autoscaling(BaseModel):
    """Replicas come and go with the requests that are under way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_replicas: int = Field(default=1, ge=0, description="0: none while nobody asks, and then a wait.")
    max_replicas: int = Field(gt=0)
    target_ongoing_requests: float = Field(
        default=16, gt=0, description="Requests for each replica that are aimed at."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"min_replicas: {self.min_replicas} is over max_replicas: {self.max_replicas}")
        return self


class ReplicaArgs(ReplicaSettings):
    """Replicas of a service. Read from a Serve config file or the command line, so types are not strict."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    run: str = Field(
        default=SHARED, min_length=1, description="Run that the service works for: its metrics' label `run`."
    )
    autoscaling: Autoscaling | None = Field(default=None, description="Instead of num_replicas.")
    max_ongoing_requests: int = Field(
        default=256,
        gt=0,
        description="With max_queued_requests what one replica works on or lets wait; more than their sum is "
        "refused with 429. How many are at work at a time is for its engine or workers to say.",
    )
    max_queued_requests: int = Field(default=1024, gt=0, description="The other part of that sum.")
    quota: Quota = Quota()
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={},
        description="Share of callers that are more, or less, than one of the others; by address, or by "
        "'token:' and the first 12 digits of the SHA-256 of the header Authorization.",
    )
    drain_timeout_s: float = Field(
        default=120.0, gt=0, description="Longest time a replica that is to go may finish what it has."
    )

    jobs_dir: str | None = Field(
        default=None,
        min_length=1,
        description="Folder that jobs are kept in, which all replicas share; without one there are none.",
    )
    jobs: JobLimits = JobLimits()

    @field_validator("jobs_dir")
    @classmethod
    def _absolute(cls, folder: str | None) -> str | None:
        # A replica has a current folder of its own.
        return None if folder is None else str(Path(folder).expanduser().absolute())

    @field_validator("weights")
    @classmethod
    def _callers(cls, weights: dict[str, float]) -> dict[str, float]:
        return {_caller(name): weight for name, weight in weights.items()}

    @property
    def max_body_bytes(self) -> int:
        """Of an HTTP request, as the service's own `limits` say."""
        limits: Any = vars(self)["limits"]
        return int(limits.max_body_bytes)

    @property
    def digest(self) -> str:
        """Of all settings: SHA-256, hexadecimal."""
        settings = json.dumps(self.model_dump(mode="json"), sort_keys=True, default=str)
        return hashlib.sha256(settings.encode()).hexdigest()

    @property
    def reusable(self) -> bool:
        """Whether a service that one run has started serves another as well."""
        return True

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a replica's process. Without a GPU of its own it sees none."""
        return {} if self.num_gpus else {"CUDA_VISIBLE_DEVICES": ""}

    @property
    def places(self) -> int:
        """Requests that one replica works on or that wait in it."""
        return self.max_ongoing_requests + self.max_queued_requests

    @property
    def calls_queued(self) -> int:
        """That may wait in a queue of Serve's, of which each of its proxies and handles has one."""
        return _TIMES_THE_PLACES * self.places + SPARE_PLACES


def _caller(name: str) -> str:
    """As callers are told apart: an address has several spellings, and a connection's is the shortest."""
    if _TOKEN.fullmatch(name):
        return name
    try:
        return str(ipaddress.ip_address(name))
    except ValueError as error:
        raise ValueError(
            f"{name!r} is no caller: write an address, or token: and the first 12 digits that "
            "`printf 'Bearer %s' TOKEN | sha256sum` says"
        ) from error
