"""Whether the runs of a folder are those that the suite asks for now.

A recipe that was edited, a variant that came back with other settings and code that changed would else be
averaged with runs of another experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from rlad_core.config import ConfigError, RunConfig
from rlad_core.config.resume import other_experiment
from rlad_core.sections.findings import problems_of
from rlad_core.sections.problems import Problem, shown
from services.compare.members import Member
from services.compare.moved import as_packed, home_of
from services.compare.verdicts import is_packed
from services.report.records import RunRecord
from services.run import own_code
from services.run.following import is_over


def refuse_other_runs(members: Sequence[Member], source: str) -> None:
    """Compare what each run that is finished or has diverged was with what it would be now.

    One that goes on is compared by `rlad run`, when it does, and one that cannot be read is in no report.

    Args:
        members: where several have one folder, because their settings are not chosen yet, its run has to be
            one of them.
        source: of the suite, for the error.

    Raises:
        ConfigError: a run is another experiment's; lists all of them.
    """
    by_folder: dict[Path, list[Member]] = {}
    for member in members:
        by_folder.setdefault(member.folder, []).append(member)
    found = [problem for folder in by_folder for problem in _problems(by_folder[folder])]
    if found:
        raise ConfigError(source, found)


def is_run_of(member: Member, record: RunRecord) -> bool:
    """Whether a finished run, whatever it is called, is what the member's would be: recipe, seed and code.

    Raises:
        ConfigError: the member's recipe is wrong.
    """
    if record.recipe is None or record.recipe.seed != member.seed:
        return False
    namesake = replace(member, name=record.recipe.name)
    return not any(_differences(namesake, record, record.recipe, ""))


def _problems(members: Sequence[Member]) -> Iterator[Problem]:
    """What keeps the run of a folder from being any of these: of the one that it is nearest to."""
    one = members[0]
    record = one.record()
    if record is None or record.recipe is None:
        return
    way_out = f"Write another --out, or remove {one.folder}"
    if one.diverged_after() is not None:
        if not any(is_run_of(member, record) for member in members):  # its settings may be trainable now
            said = f"diverged with other settings or other code than the suite asks for now. {way_out}"
            yield Problem(one.name, str(one.folder), said)
    elif is_over(record):
        yield from min(
            (list(_differences(each, record, record.recipe, way_out)) for each in members), key=len
        )


def _differences(member: Member, record: RunRecord, was: RunConfig, way_out: str) -> Iterator[Problem]:
    home, asked = home_of(member.recipe), member.config()
    try:
        # Its recipe names the copies of the user's code that are in its folder.
        now, changed = own_code.kept(asked, record.folder, home)
        if is_packed(record.folder):
            now = as_packed(now, home, record.folder)
    except ValidationError as error:
        said = "; ".join(map(str, problems_of(error, RunConfig)))
        yield Problem(
            member.name, str(record.folder), f"its copy of your code cannot be used: {said}. {way_out}"
        )
        return
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"its {own_code.FOLDER}/{own_code.ORIGIN} is broken: {error!r}. {way_out}"
        yield Problem(member.name, str(record.folder), said)
        return
    for sentence in changed:
        yield Problem(f"{member.name}: code", str(record.folder), f"{sentence}. {way_out}")
    for change in other_experiment(was, now):
        yield Problem(
            f"{member.name}: {change.path}",
            change.old,
            f"is what the finished run has, and now it would be {shown(change.new)}. {way_out}",
        )
