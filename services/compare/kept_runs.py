"""Whether the runs of a folder are those that the suite asks for now.

A recipe that was edited, a variant that came back with other settings and code that changed would else be
averaged with runs of another experiment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

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
    """Compare what each finished run was with what it would be now.

    One that is not finished is compared by `rlad run`, when it goes on, and one that cannot be read is in no
    report.

    Args:
        source: of the suite, for the error.

    Raises:
        ConfigError: a run is another experiment's; lists all of them.
    """
    found = [problem for member in members for problem in _problems(member)]
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


def _problems(member: Member) -> Iterator[Problem]:
    record = member.record()
    if record is not None and record.recipe is not None and is_over(record):
        way_out = f"Write another --out, or remove {member.folder}"
        yield from _differences(member, record, record.recipe, way_out)


def _differences(member: Member, record: RunRecord, was: RunConfig, way_out: str) -> Iterator[Problem]:
    try:
        # Its recipe names the copies of the user's code that are in its folder.
        home = home_of(member.recipe)
        now, changed = own_code.kept(member.config(), record.folder, home)
        if is_packed(record.folder):
            now = as_packed(now, home, record.folder)
    except ValidationError as error:
        said = "; ".join(map(str, problems_of(error, RunConfig)))
        yield Problem(
            member.name, str(record.folder), f"its copy of your code cannot be used: {said}. {way_out}"
        )
        return
    for sentence in changed:
        yield Problem(f"{member.name}: code", str(record.folder), f"{sentence}. {way_out}")
    for change in other_experiment(was, now):
        yield Problem(
            f"{member.name}: {change.path}",
            change.old,
            f"is what the finished run has, and now it would be {shown(change.new)}. {way_out}",
        )
