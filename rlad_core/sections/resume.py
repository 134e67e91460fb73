"""Whether a setting may change when a run is resumed: said at the setting itself.

    workers: Free[PositiveInt] = 1          # changes no result, or only how the run is carried out
    max_length: Grows[PositiveInt] = 4096   # may be raised: what was done stays what it would have been
    lr: Fixed[PositiveFloat] = 1e-6         # is the experiment; with another one it is another run

A section whose settings are all of one kind may say so once, in its class (`Section.on_resume`), for itself
and for what lies in it. What says nothing is fixed: it could be a user's own section.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeVar

Value = TypeVar("Value")


class OnResume(Enum):
    """What a resumed run makes of another value."""

    FREE = "free"
    GROWS = "grows"
    FIXED = "fixed"


Free = Annotated[Value, OnResume.FREE]
Grows = Annotated[Value, OnResume.GROWS]
"""A number that may be raised, a list that may get more at its end."""
Fixed = Annotated[Value, OnResume.FIXED]
