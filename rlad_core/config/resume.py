"""What a recipe may change of the run that it resumes: two recipes, setting by setting.

Whether a setting may change is said where it is declared, see `rlad_core.sections.resume`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic.fields import FieldInfo

from rlad_core.config.run import RunConfig
from rlad_core.sections.base import Section
from rlad_core.sections.problems import shown
from rlad_core.sections.resume import OnResume

_CHOOSING = ("kind", "name")
"""Keys that choose a section's class, see `rlad_core.sections.chosen`."""


@dataclass(frozen=True)
class Change:
    """A setting that differs between a run and the recipe that resumes it."""

    path: str
    """As ``--set`` would name it."""
    old: Any
    new: Any
    refused: str
    """Why it may not change; empty where it may."""
    effect: str = ""
    """What a change that is taken does besides, which its values do not show."""

    def __str__(self) -> str:
        why = f" ({said})" if (said := self.refused or self.effect) else ""
        return f"{self.path}: {shown(self.old)} -> {shown(self.new)}{why}"


def changes(
    before: RunConfig, now: RunConfig, done: int, early_ends: Mapping[int, int] | None = None
) -> list[Change]:
    """Every setting that differs, in the recipe's order.

    Args:
        before: of the run.
        now: that is to resume it.
        done: steps of the run at the checkpoint that it is resumed from.
        early_ends: of stages that a rule had ended by then, see `RunConfig.position`.
    """
    return [_by_then(each, before, done, early_ends or {}) for each in _sections(before, now, "", None)]


def other_experiment(before: RunConfig, now: RunConfig) -> list[Change]:
    """Settings that differ and make it another experiment: all but those that are free to change.

    What may only grow makes another one too: a run that is over was carried out with less.
    """
    # What grows is allowed from the one to the other, and refused the other way round.
    back = {change.path for change in changes(now, before, 0) if change.refused}
    return [change for change in changes(before, now, 0) if change.refused or change.path in back]


def rule_of(field: FieldInfo, around: OnResume | None) -> OnResume | None:
    """Whether a field may change; None where nobody says it, which counts as fixed.

    Args:
        around: of the section that it is in, or of one further out.
    """
    own = [each for each in field.metadata if isinstance(each, OnResume)]
    return own[-1] if own else around


def _sections(old: Section, new: Section, path: str, around: OnResume | None) -> Iterator[Change]:
    if type(old) is not type(new):
        yield _choice(old, new, path)
        return
    around = old.on_resume or around
    for name, field in type(old).model_fields.items():
        yield from _values(getattr(old, name), getattr(new, name), f"{path}{name}", rule_of(field, around))


def _choice(old: Section, new: Section, path: str) -> Change:
    """Sections of different kinds, whose settings are not the same ones."""
    for key in _CHOOSING:
        said = getattr(old, key, None), getattr(new, key, None)
        if said[0] != said[1]:
            return Change(f"{path}{key}", *said, _why(OnResume.FIXED))
    return Change(path.rstrip("."), _plain(old), _plain(new), _why(OnResume.FIXED))


def _values(old: Any, new: Any, path: str, rule: OnResume | None) -> Iterator[Change]:
    if isinstance(old, Section) and isinstance(new, Section):
        yield from _sections(old, new, f"{path}.", rule)
    elif _are_sections(old) and _are_sections(new) and (len(old) == len(new) or rule is OnResume.GROWS):
        for place, (a, b) in enumerate(zip(old, new, strict=False)):
            # That a list may get longer says nothing of what stands in it.
            yield from _sections(a, b, f"{path}.{place}.", None if rule is OnResume.GROWS else rule)
        if len(new) != len(old):
            shorter = f"may only get longer, and has {len(old)}" if len(new) < len(old) else ""
            yield Change(path, _plain(old), _plain(new), shorter)
    elif old != new:
        yield Change(path, _plain(old), _plain(new), "" if _may(old, new, rule) else _why(rule))


def _may(old: Any, new: Any, rule: OnResume | None) -> bool:
    if rule is OnResume.GROWS:
        return isinstance(old, int | float) and isinstance(new, int | float) and new > old
    return rule is OnResume.FREE


def _why(rule: OnResume | None) -> str:
    return "may only be raised" if rule is OnResume.GROWS else "would be another experiment"


def _by_then(change: Change, before: RunConfig, done: int, early_ends: Mapping[int, int]) -> Change:
    """A change that what the run has done, or another setting, makes one of the experiment."""
    if change.refused:
        return change
    for index, stage in enumerate(before.stages):
        if change.path == f"stages.{index}.steps" and done:
            return _lengthened(change, index, before, done, early_ends)
        counts = stage.until is not None and stage.until.evaluations_without_rise is not None
        if change.path == "evaluation.every" and counts:
            why = f"stages.{index}.until counts evaluations, so that the stage would end elsewhere"
            return replace(change, refused=why)
    return change


def _lengthened(
    change: Change, index: int, before: RunConfig, done: int, early_ends: Mapping[int, int]
) -> Change:
    """More steps of a stage that may be over by now, or whose learning rate may have begun to fall."""
    if index in early_ends:
        why = f"its rule (until) ended the stage after step {early_ends[index]} of the run"
        return replace(change, refused=why)
    last, learner = before.position(done - 1, early_ends), before.learner
    if index < last.index:
        # They would have come before what has been done since.
        return replace(change, refused=f"the stage is over, the run has done {done} steps")
    # The rates of the warm-up, and of the step behind it, are the same for any length.
    if index == last.index and learner.schedule != "constant" and last.step > learner.warmup_steps:
        effect = (
            f"the learning rate, which fell over {last.steps} steps by learner.schedule: "
            f"{learner.schedule}, rises to where it is when it falls over all of these"
        )
        return replace(change, effect=effect)
    return change


def _are_sections(value: Any) -> bool:
    return isinstance(value, tuple) and bool(value) and all(isinstance(each, Section) for each in value)


def _plain(value: Any) -> Any:
    """As the recipe has it."""
    if isinstance(value, Section):
        return value.model_dump(mode="json")
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def refused(found: Sequence[Change]) -> list[Change]:
    """Those that may not be."""
    return [change for change in found if change.refused]
