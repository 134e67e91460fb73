"""Whether the tries of a suite are judged on other problems than its report, looked at before any is begun.

Problems of files are compared by what they ask, whatever the files are called, so these are read. What is
generated, and what a user's own task makes, takes too long for that: it is known by how it is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from rlad_core import data
from rlad_core.config import ConfigError
from rlad_core.prompt_checks import PromptsRefusedError, read_parts
from rlad_core.prompt_checks.soundness import problem_of, where
from rlad_core.sections.problems import Problem
from rlad_core.tasks import TaskSection
from rlad_core.tasks.files import FileTaskSection
from services.compare.members import Member
from services.compare.suite import Suite


def refuse_tuning_on_the_report(
    suite: Suite, tries: Sequence[Member], members: Sequence[Member], source: str
) -> None:
    """Check that no problem of the tries is one of the report's.

    Args:
        tries, members: of the suite.
        source: of the suite, for the error.

    Raises:
        ConfigError: a recipe is wrong, some problems are the same, or files of them cannot be read.
    """
    if not tries:
        return
    try:
        reported, tried = _held_out(members), _held_out(tries)
    except PromptsRefusedError as error:
        said = f"cannot be told apart from the report's problems: {error}"
        raise ConfigError(source, [Problem("tuning.set", suite.tuning and suite.tuning.set, said)]) from error
    if shared := [place for what, place in tried.items() if what in reported]:
        said = (
            f"has the tries judged on the report's own held-out problems ({shared[0]}), on which the best of "
            "them would look better than it is. Write others, such as task.evaluation.split: validation"
        )
        raise ConfigError(source, [Problem("tuning.set", suite.tuning and suite.tuning.set, said)])


def _held_out(members: Iterable[Member]) -> dict[str, str]:
    """What the runs are judged on -> where it is, in words."""
    sections = {
        section.model_dump_json(exclude={"train"}): section
        for member in members
        for section in member.config().task_sections.values()
    }
    return {what: place for section in sections.values() for what, place in _problems(section)}


def _problems(section: TaskSection) -> Iterator[tuple[str, str]]:
    files = {}
    if isinstance(section, FileTaskSection):
        files = {file.subset: file.path for file in section.files("evaluation")}
    judge, here = section.judge(), []
    for part in section.evaluation_parts:
        if (path := files.get(part.subset)) is None:
            # The first 100 are among the first 500, so their count is no part of it.
            asked = [judge.place, judge.settings, part.split, part.subset, part.seed]
            yield json.dumps(asked), f"{part.subset}, split {part.split}, seed {part.seed}"
        elif data.is_there(path):
            here.append((section.label, part))
        else:  # a cluster has it
            yield path, path
    if here:
        read = read_parts(here, "evaluation", {section.label: section.task()})
        yield from ((problem_of(prompt), where(prompt)) for prompt in read.prompts)
