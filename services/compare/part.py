"""A part of a suite: what ``--only`` and ``--seed`` ask for."""

from __future__ import annotations

from dataclasses import dataclass

from rlad_core.config import ConfigError
from rlad_core.sections.problems import Problem
from services.compare.members import Member
from services.compare.suite import Suite


@dataclass(frozen=True)
class Part:
    """Some runs of a suite: of these variants, and with these seeds; of none: of all."""

    variants: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()

    def check(self, suite: Suite, source: str) -> None:
        """Refuse what the suite has not.

        Raises:
            ConfigError: a variant or a seed is not the suite's.
        """
        found = [
            Problem(option, each, f"is none of the suite's: {', '.join(map(str, known))}")
            for option, asked, known in (
                ("--only", self.variants, list(suite.variants)),
                ("--seed", self.seeds, suite.seeds),
            )
            for each in asked
            if each not in known
        ]
        if found:
            raise ConfigError(source, found)

    def has_variant(self, member: Member) -> bool:
        """Whether the run's variant is one of them: enough for a try, whose seed is the tuning's."""
        return not self.variants or member.variant in self.variants

    def has(self, member: Member) -> bool:
        """Whether the run is."""
        return self.has_variant(member) and (not self.seeds or member.seed in self.seeds)

    def suite_of(self, suite: Suite) -> Suite:
        """The suite with nothing but this."""
        variants = {
            name: each for name, each in suite.variants.items() if not self.variants or name in self.variants
        }
        seeds = [seed for seed in suite.seeds if not self.seeds or seed in self.seeds]
        return suite.model_copy(update={"variants": variants, "seeds": seeds})

    def __str__(self) -> str:
        """In words, for a report; empty where it is all."""
        said = [f"--only {name}" for name in self.variants] + [f"--seed {seed}" for seed in self.seeds]
        return f"A part of the suite alone: {' '.join(said)}." if said else ""
