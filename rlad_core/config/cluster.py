"""The Ray cluster that a run or an evaluation is carried out in."""

import os

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from rlad_core.sections.base import NAME_LENGTH, NAME_PATTERN, Section, Wait
from rlad_core.sections.resume import Free


class ClusterConfig(Section):
    """The Ray cluster: an embedded one on this machine, or one that is already there."""

    address: Free[str | None] = Field(
        default=None,
        description="'auto', 'host:port' or 'ray://...'; null: what RAY_ADDRESS names, else embedded.",
    )
    num_cpus: Free[PositiveInt | None] = Field(
        default=None, description="Logical CPUs of an embedded cluster; null: as many as the run asks for."
    )
    num_gpus: Free[NonNegativeInt | None] = Field(
        default=None, description="GPUs of an embedded cluster; null: all there are."
    )
    object_store_gib: Free[PositiveFloat] = Field(
        default=1.0, description="Shared memory of an embedded cluster."
    )
    start_timeout_s: Free[Wait] = Field(
        default=600.0, description="Longest wait until all services are ready."
    )
    services: Free[str | None] = Field(
        default=None,
        pattern=NAME_PATTERN,
        max_length=NAME_LENGTH,
        description="Name under which the run's services outlive it in a cluster that is already there, for "
        "the next run with this name; those with the same settings are used again. null: they end with it.",
    )

    @property
    def is_joined(self) -> bool:
        """Whether it is another's, on machines that may have files which this one lacks."""
        return (self.address or os.environ.get("RAY_ADDRESS") or "local") != "local"
