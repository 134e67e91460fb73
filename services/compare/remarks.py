"""What a reader of a comparison has to know of single methods: some get more than others, or more is known.

A suite may compare them all the same, so they are told, when it is carried out and on its page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rlad_core.config import RunConfig
from services.compare.members import Member
from services.compare.results import Results
from services.compare.suite import Suite


def remarks_before(suite: Suite, members: Iterable[Member]) -> list[str]:
    """What can be said before anything is sampled.

    Args:
        members: that are to be carried out, tries too.

    Raises:
        ConfigError: a recipe is wrong.
    """
    recipes: dict[str, list[RunConfig]] = {}
    for member in members:
        label = suite.variants[member.variant].label or member.variant
        recipes.setdefault(label, []).append(member.config())
    return [*_of_suite(suite), *_more_sampled(recipes), *_chosen_on_the_report(recipes)]


def remarks_of(results: Results) -> list[str]:
    """The same of finished runs, with what they sampled."""
    recipes = _recipes(results)
    sampled = ", ".join(f"{each.label} {each.total('tokens'):,.0f}" for each in results.methods)
    more = [f"{said} Sampled tokens of a run: {sampled}." for said in _more_sampled(recipes)]
    return [*_of_suite(results.suite), *more, *_chosen_on_the_report(recipes)]


def same_for_all(results: Results) -> str:
    """What every method gets, as a sentence."""
    same = "Every method gets the same prompts, responses a prompt and optimizer steps"
    unlike = any(_more_sampled(_recipes(results)))
    return f"{same}, but not all sample as much, see below." if unlike else f"{same}."


def _recipes(results: Results) -> dict[str, list[RunConfig]]:
    """Of each method by its label."""
    return {
        method.label: [run.record.recipe for run in method.runs if run.record.recipe is not None]
        for method in results.methods
    }


def _of_suite(suite: Suite) -> list[str]:
    if suite.tuning is None or any(variant.tune for variant in suite.variants.values()):
        return []
    return ["tuning has no effect: no variant has settings to try (tune)."]


def _more_sampled(recipes: Mapping[str, Sequence[RunConfig]]) -> list[str]:
    """Of methods that go on sampling where groups teach nothing: one sentence, or none."""
    rounds = {label: max(each.rollout.refill_rounds for each in own) for label, own in recipes.items() if own}
    if not (found := [f"{label} up to {1 + more} times" for label, more in rounds.items() if more]):
        return []
    return [
        f"Some may sample more than a step's prompts (rollout.refill_rounds): {', '.join(found)} as many, "
        "new ones in place of groups that teach nothing."
    ]


def _chosen_on_the_report(recipes: Mapping[str, Sequence[RunConfig]]) -> list[str]:
    """Of methods that look at the held-out problems while they train, which are the report's."""
    found = [label for label, own in recipes.items() if any(map(_looks, own))]
    return [
        f"{label} ends a stage by its accuracy on the report's own held-out problems "
        "(until.evaluations_without_rise), on which it may look better than it is."
        for label in found
    ]


def _looks(recipe: RunConfig) -> bool:
    rules = [stage.until for stage in recipe.stages if stage.until is not None]
    return any(rule.evaluations_without_rise is not None for rule in rules)
