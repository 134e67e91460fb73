"""A setting that goes from one value to another over the steps of a stage, in a straight line."""

from __future__ import annotations

from collections.abc import Iterator

from rlad_core.sections.base import Section
from rlad_core.sections.problems import Problem


def ramp(start: float, end: float | None, steps: int | None, step: int) -> float:
    """The value after `step` steps of the stage: from `start` to `end` over `steps`, and `end` from then on.

    Without `end` and `steps` it is `start` throughout.
    """
    if end is None or steps is None:
        return start
    return end if step >= steps else start + (end - start) * step / steps


def ramp_problems(name: str, end: float | None, steps: int | None) -> Iterator[Problem]:
    """``NAME_end`` and ``NAME_steps`` belong together."""
    if end is not None and steps is None:
        yield Problem(
            f"{name}_steps", None, f"{name}_end is reached over so many steps. Write some, such as 40"
        )
    if end is None and steps is not None:
        yield Problem(f"{name}_steps", steps, f"has no effect without {name}_end. Write null, or {name}_end")


def ramps_of(settings: Section) -> Iterator[tuple[str, int]]:
    """The settings ``NAME`` that go to ``NAME_end``, with their ``NAME_steps``."""
    fields = type(settings).model_fields
    for name in fields:
        end, steps = f"{name}_end", f"{name}_steps"
        if end in fields and steps in fields:
            count = getattr(settings, steps)
            if count is not None and getattr(settings, end) is not None:
                yield name, count
