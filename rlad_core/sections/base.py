"""What every part of a recipe has in common."""

from typing import Annotated, ClassVar, Final

from pydantic import BaseModel, ConfigDict, Field

from rlad_core.sections.resume import OnResume

NAME_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
"""Of what becomes a part of a file's, a metric's or an actor's name."""
NAME_LENGTH: Final = 200
"""The most that such a name may have: a file's has 255 bytes with what is added to it."""
LONGEST_WAIT_S: Final = 1_000_000_000
"""Thirty years. Ten times as long, and a thread has no clock for its end; long after that, torch has none."""
Wait = Annotated[float, Field(gt=0, le=LONGEST_WAIT_S)]
"""A limit in seconds."""


class Section(BaseModel):
    """A part of a recipe: unknown keys and loosely typed values are refused, and nothing changes later.

    ``strict`` means that ``"8"`` or ``true`` is no integer: a recipe that says something odd is
    more often wrong than lazy. Whole numbers are accepted where a float is wanted.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    on_resume: ClassVar[OnResume | None] = None
    """Of all settings in it that do not say it themselves, see `rlad_core.sections.resume`."""
