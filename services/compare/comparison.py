"""A comparison in its folder: tuned first where the suite says so, then run by run, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from rlad_core.config.yaml_text import dump_values
from services.base.whole_files import write_whole
from services.compare import tuning
from services.compare.carry_out import carry_out
from services.compare.diverged import pack_diverged, told
from services.compare.equality import (
    choices_of,
    refuse_broken,
    refuse_unequal,
    refuse_unequal_choices,
)
from services.compare.judged_apart import refuse_tuning_on_the_report
from services.compare.kept_runs import refuse_other_runs
from services.compare.kept_suite import SUITE, kept_suite, refuse_another
from services.compare.members import Member, members_of, tries_of
from services.compare.moved import home_of, relative
from services.compare.overview import Overview
from services.compare.packing import pack
from services.compare.part import Part
from services.compare.read_once import Recipe
from services.compare.remarks import remarks_before
from services.compare.results import Results, results_of
from services.compare.suite import Settings, Suite
from services.compare.taking import finished_runs, take
from services.run.lease import leased


class Comparison:
    """A suite and the folder in which it is carried out.

    Args:
        suite: what is compared.
        folder: of the comparison; made by `carry_out`.
    """

    def __init__(self, suite: Suite, folder: Path) -> None:
        self.suite = suite
        self.folder = folder
        self._base = Recipe(suite.recipe, suite.folder)
        self.tries = tries_of(suite, folder, self._base)
        """Variant -> its settings and the run that tries them."""

    @property
    def members(self) -> list[Member]:
        """The runs of the report, with what the tuning has chosen so far."""
        chosen, _ = tuning.chosen_of(self.tries)
        return members_of(self.suite, self.folder, chosen, self._base)

    def check(self, source: str) -> None:
        """Refuse what cannot be compared, before anything is written.

        Args:
            source: of the suite, for the error.

        Raises:
            ConfigError: a recipe is wrong, variants differ where they must not, or the folder has another
                suite's runs, or some of recipes as they were.
            ReportError: what the folder has of tries is broken.
        """
        refuse_another(self.suite, self.folder, source)
        tuning.read(self.folder)  # when the tries are over is too late to learn that it is broken
        members, tries = self.members, self.all_tries
        choices = choices_of(self.suite, self.folder, self._base)
        untuned = members_of(self.suite, self.folder, {}, self._base)
        chosen = [member for each in choices.values() for _, member in each]
        refuse_broken([*untuned, *members, *chosen, *tries], source)
        refuse_unequal(members, source)
        # Else it would be found when hours of tries are over.
        refuse_unequal_choices(self.suite, choices, source)
        refuse_unequal([choices[m.variant][0][1] if m.variant in choices else m for m in untuned], source)
        refuse_tuning_on_the_report(self.suite, tries, untuned, source)
        refuse_other_runs([*tries, *self._possible], source)

    @property
    def _possible(self) -> list[Member]:
        """The runs of the report; one whose settings are not chosen yet with each that it may get."""
        waiting = self._waiting({})
        choices = [{variant: tried} for variant in waiting for tried, _ in self.tries[variant]]
        return [
            *(member for member in self.members if member.variant not in waiting),
            *(
                member
                for choice in choices
                for member in members_of(self.suite, self.folder, choice, self._base)
                if member.variant in choice
            ),
        ]

    def _chosen(self, part: Part) -> list[Member]:
        """The runs of a part whose settings are chosen: with others a run would be another's.

        Raises:
            ConfigError: a run is there with other settings than the tries have chosen by now.
        """
        waiting = self._waiting({})
        found = [m for m in self.members if m.variant not in waiting and part.has(m)]
        refuse_other_runs(found, str(self.folder / SUITE))
        return found

    @property
    def all_tries(self) -> list[Member]:
        """Those of all variants."""
        return [member for each in self.tries.values() for _, member in each]

    def carry_out(self, console: Console, at_once: int = 1, part: Part | None = None) -> dict[str, str]:
        """Carry out what is not finished; the runs that failed, with their last words.

        Args:
            console: for the progress.
            at_once: so many runs are at work at the same time.
            part: of the suite; None: all of it.

        Raises:
            HeldError: another process carries it out.
            ConfigError: runs there were made with other settings than the tries have chosen by now.
            KeyboardInterrupt: Ctrl-C or SIGTERM.
        """
        with leased(self.folder, lambda sentence: console.print(sentence, markup=False, soft_wrap=True)):
            return self._carried_out(console, at_once, part or Part())

    def _carried_out(self, console: Console, at_once: int, part: Part) -> dict[str, str]:
        self.write_suite(self.suite.recipe)
        failed: dict[str, str] = {}
        tries = [member for member in self.all_tries if part.has_variant(member)]
        runs = [member for member in self.members if part.has(member)]
        overview = Overview(console, [*tries, *runs])
        with overview:
            for remark in remarks_before(self.suite, [*tries, *runs]):
                overview.say(remark)
            if tries:
                try:
                    failed |= carry_out(tries, self.folder, overview, at_once).failed
                finally:  # Ctrl-C too: what was found by then is found
                    self._write_tuning()
            ready = self._chosen(part)
            names = {member.name for member in ready}
            overview.leave_out([member for member in runs if member.name not in names])
            failed |= carry_out(ready, self.folder, overview, at_once).failed
        return failed

    def write_suite(self, recipe: str) -> None:
        """With the variants and seeds of runs there that this suite has not: they may come back. What a
        person wrote, and lies there itself, stays as it is.

        Args:
            recipe: what it is called there.
        """
        there, ours = self.folder / SUITE, self.suite.file
        if ours is not None and there.exists() and there.samefile(ours):
            return
        suite = self.suite.model_copy(update={"recipe": recipe})
        if kept := kept_suite(self.folder):
            suite = suite.model_copy(
                update={
                    "variants": kept.variants | suite.variants,
                    "seeds": list(dict.fromkeys([*kept.seeds, *suite.seeds])),
                }
            )
        write_whole(there, dump_values(suite.model_dump(mode="json")))

    def _write_tuning(self) -> None:
        tuning.write(tuning.chosen_of(self.tries)[1], self.folder)

    def pack(self, to: Path, source: str, part: Part | None = None) -> list[str]:
        """Write what the report needs of the settled runs to another folder, beside what is there of others;
        the names of these runs.

        Args:
            to: a folder of this suite, or none yet.
            source: of the suite, for the error.
            part: of the suite; None: all of it.

        Raises:
            ConfigError: the folder has another suite's runs.
            ReportError: what a folder has of tries is broken.
            SchemaError: a file of a run is broken; names it.
            OSError: it cannot be written to.
        """
        packed = Comparison(self.suite, to)
        packed.check(source)
        part = part or Part()
        tries = [member for member in self.all_tries if part.has_variant(member)]
        runs = [*tries, *(member for member in self.members if part.has(member))]
        names = [*pack(runs, to), *pack_diverged(runs, to)]
        if names:
            packed.write_suite(relative(self.suite.recipe, home_of(self.suite.recipe)))
            if self.tries:
                packed._write_tuning()
        return names

    def take(self, folder: Path, console: Console, part: Part | None = None) -> dict[str, str]:
        """Take finished runs of another comparison that are runs of this one too, and are missing in it.

        Args:
            folder: of the other one, packed or not.
            console: told whom the folder is waited for.
            part: of the suite; None: all of it.

        Returns:
            Name of the run here -> its name there.

        Raises:
            HeldError: another process carries this comparison out.
            ConfigError: a run is here with other settings than tries that were taken have chosen.
            ReportError: `folder` has no finished run.
            SchemaError: a file of a run there is broken.
            OSError: a run cannot be written.
        """
        there, part = finished_runs(folder), part or Part()
        with leased(self.folder, lambda sentence: console.print(sentence, markup=False, soft_wrap=True)):
            taken = take(filter(part.has_variant, self.all_tries), there)
            # After the tries, which may be taken too and choose.
            taken |= take(self._chosen(part), there)
            if taken:
                self.write_suite(self.suite.recipe)
                if self.tries:
                    self._write_tuning()
        return taken

    def results(self, failed: dict[str, str], part: Part | None = None) -> Results:
        """What is finished, tries too; `failed` says why some are not.

        Args:
            part: of the suite; None: all of it.

        Raises:
            ReportError: a finished try tells no accuracy.
        """
        part = part or Part()
        suite = part.suite_of(self.suite)
        chosen, found = tuning.chosen_of(self.tries)
        waiting, members = self._waiting(failed), members_of(suite, self.folder, chosen, self._base)
        begun_later = {m.name: waiting[m.variant] for m in members if m.variant in waiting}
        tuned = tuning.tuned_of(suite, tuning.read(self.folder), found)
        results = results_of(suite, members, told(members) | begun_later | failed, tuned)
        return replace(results, part=str(part))

    def _waiting(self, failed: Mapping[str, str]) -> dict[str, str]:
        """Variants whose settings are not chosen, and why their runs are not begun."""
        return {variant: said for variant, tries in self.tries.items() if (said := _waits(tries, failed))}


def _waits(tries: Sequence[tuple[Settings, Member]], failed: Mapping[str, str]) -> str | None:
    """Why the runs of a variant are not begun; None: its settings are chosen."""
    left = [member.name for _, member in tries if not member.is_settled()]
    if not left:
        if any(member.is_finished() for _, member in tries):
            return None
        return f"it cannot be trained with this grid, all of its {len(tries)} tries diverged"
    faults = {member.name: fault for _, member in tries if (fault := member.fault())}
    words = [f"{name}: {why}" for name in left if (why := failed.get(name) or faults.get(name))]
    said = f"its settings are not chosen yet, {len(left)} of its {len(tries)} tries are not finished"
    return " (".join([said, "; ".join(words) + ")"]) if words else said
