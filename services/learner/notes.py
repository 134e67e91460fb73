"""What a rank tells whoever watches its run."""

from __future__ import annotations

from contextlib import suppress

import ray

from rlad_core.config import RunConfig
from services.clients.handles import ServiceNames
from services.serve.cluster import NAMESPACE


def note(config: RunConfig, text: str) -> None:
    """Give the run's journal a sentence; where there is none, as in a benchmark, nobody watches.

    Every rank may: what several say word for word within a step is shown once.
    """
    if not ray.is_initialized():  # a look for an actor would start one
        return
    with suppress(ValueError):  # no such actor
        journal = ray.get_actor(ServiceNames(config.services_name).of("journal"), namespace=NAMESPACE)
        journal.note.remote(text)
