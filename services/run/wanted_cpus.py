"""How many logical CPUs an embedded Ray has for a run."""

import math

from rlad_core.config import RunConfig

_SPARE = 4  # Serve's proxy and controller, Train's controller, the actors of the run


def wanted_cpus(config: RunConfig) -> int:
    """What the run's services and workers reserve; CPUs are logical, so this may exceed the cores."""
    return _SPARE + math.ceil(config.reserved_cpus)
