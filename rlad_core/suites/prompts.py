"""The prompts of suites, from the files that are here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rlad_core.data import Fault, rows
from rlad_core.suites.files import find
from rlad_core.tasks import Prompt
from rlad_core.tasks.suite import ALL_FILES, Suite


class SuiteError(ValueError):
    """A suite that there is not, or whose files are not here or not its own; says what to do."""


@dataclass(frozen=True)
class SuitePrompts:
    """What is asked.

    prompts: suite by suite; of each subset every problem once.
    remarks: what a person should know of the files, one sentence each.
    """

    prompts: list[Prompt]
    remarks: list[str] = field(default_factory=list)


def prompts_in(
    data: Path, suites: Mapping[str, Suite], names: Sequence[str], *, count: int | None = None
) -> SuitePrompts:
    """The prompts of suites.

    Args:
        data: see `find`.
        suites: all there are, by name.
        names: those that are wanted.
        count: so many problems of each subset, always the same ones; None: all.

    Raises:
        SuiteError: names every suite that is unknown or missing, these with the command that fetches it; or
            a row that is none of the suite, with its file.
        OSError: a file cannot be read.
    """
    if unknown := [name for name in names if name not in suites]:
        raise SuiteError(f"there is no suite {', '.join(unknown)}; there is {', '.join(suites)}")
    files = {name: find(suites[name], data) for name in dict.fromkeys(names)}
    if missing := [name for name, found in files.items() if not found]:
        commands = "\n".join(f"  {suites[name].command(str(data))}" for name in missing)
        raise SuiteError(f"{data} has no files of {', '.join(missing)}. Fetch them with\n{commands}")
    told = SuitePrompts([])
    for name, found in files.items():
        prompts = _read(suites[name], found)
        told.remarks.extend(_remarks(suites[name], found, len(prompts)))
        told.prompts.extend(prompts if count is None else _drawn(prompts, count))
    return told


def _read(suite: Suite, files: Sequence[Path]) -> list[Prompt]:
    """Every problem once, in the files' order."""
    first: dict[tuple[str, str], tuple[str, Prompt]] = {}
    for path in files:
        try:
            for row in rows(str(path)):
                if isinstance(row, Fault):
                    raise SuiteError(f"{row.where}: {row.reason}")
                try:
                    prompt = suite.prompt(row.values, suite.name)
                except (ValueError, SyntaxError, KeyError, TypeError) as error:
                    raise SuiteError(f"{row.where} is no row of {suite.name}: {error}") from error
                before, known = first.setdefault((prompt.subset, prompt.prompt_id), (row.where, prompt))
                if _answer(known) != _answer(prompt):
                    raise SuiteError(f"{row.where}: the problem of {before} with another answer")
        except SuiteError:
            raise
        except ValueError as error:
            raise SuiteError(f"{suite.name}: {error}") from error
    if not first:
        raise SuiteError(f"{suite.name}: there are no rows in {', '.join(map(str, files))}")
    return [prompt for _, prompt in first.values()]


def _answer(prompt: Prompt) -> str:
    """What a problem that is there twice must agree in; its solutions may differ."""
    return prompt.gold if prompt.answer is None else prompt.answer


def _remarks(suite: Suite, files: Sequence[Path], problems: int) -> list[str]:
    told = []
    if suite.problems not in (None, problems):
        told.append(f"{suite.name} has {problems} problems here, and {suite.problems} as it was published")
    if any("train" in path.name for path in files) and suite.files != ALL_FILES:
        told.append(f"{suite.name} is read from files of a training split: {files[0].name}")
    return told


def _drawn(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """So many of each subset, in their order."""
    by_subset: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        by_subset.setdefault(prompt.subset, []).append(place)
    kept: list[int] = []
    for places in by_subset.values():
        order = np.random.default_rng(0).permutation(len(places))[:count]
        kept += [places[index] for index in sorted(order)]
    return [prompts[place] for place in kept]
