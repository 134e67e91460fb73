"""What the finished runs of a comparison say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

from rlad_core.evaluation import (
    AVERAGE,
    Difference,
    Estimate,
    Pair,
    Scores,
    Verdicts,
    differences,
    estimates,
    ks_of,
    pass_at_k,
    scores_of,
)
from rlad_core.schema import SchemaError
from services.compare.members import Member
from services.compare.other_prompts import with_other_prompts
from services.compare.suite import Suite
from services.compare.tuning import Tuned
from services.compare.verdicts import VERDICTS, verdicts_in
from services.report.record_lines import EVALUATIONS, METRICS
from services.report.records import RunRecord

Curve = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""Steps [n], and a value of each seed at each of them [seeds, n]."""


@dataclass(frozen=True)
class Evaluated:
    """One run: its record, and its verdicts at each evaluation."""

    seed: int
    record: RunRecord
    verdicts: tuple[tuple[int, Verdicts], ...]
    """Steps done -> verdicts, the last of the run at the end."""


@dataclass(frozen=True)
class Method:
    """A variant with its finished runs, by rising seed.

    Attributes:
        label: for people.
        accuracies: see `accuracy`.
    """

    name: str
    label: str
    runs: tuple[Evaluated, ...]
    accuracies: Mapping[str | None, Estimate]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the finished runs."""
        return tuple(run.seed for run in self.runs)

    @property
    def subsets(self) -> tuple[str, ...]:
        """Of the held-out problems."""
        return tuple(subset for subset in self.accuracies if subset is not None)

    def accuracy(self, subset: str | None = None) -> Estimate:
        """At the end on a subset; None: the mean over subsets, as the paper's tables have it."""
        return self.accuracies[subset]

    def training(self, key: str) -> Curve:
        """A number of metrics.jsonl about the policy's responses, step by step.

        NaN in steps that train on a teacher's responses or a task's solutions: it is a number of those there.
        """
        steps = min(len(run.record.steps) for run in self.runs)
        values = np.array([_of_rollouts(run.record, key)[:steps] for run in self.runs])
        return self.runs[0].record.series("step")[:steps] + 1, values  # a step is counted from 0

    def held_out(self, k: int | None = None) -> Curve:
        """Mean@k over the course of the training, the mean over subsets; or Pass@k of a given k."""
        shared = set.intersection(*({step for step, _ in run.verdicts} for run in self.runs))
        steps = sorted(shared)
        values = [[_mean_over_subsets(dict(run.verdicts)[step], k) for step in steps] for run in self.runs]
        return np.array(steps, dtype=np.float64), np.array(values).reshape(len(self.runs), len(steps))

    def held_out_reward(self) -> Curve:
        """Mean reward of a held-out response over the course of the training, the mean over subsets.

        It has the steps of which all runs kept it; older runs did of none.
        """
        runs = [_rewards(run.record) for run in self.runs]
        steps = sorted(set.intersection(*map(set, runs)))
        values = [[rewards[step] for step in steps] for rewards in runs]
        return np.array(steps, dtype=np.float64), np.array(values).reshape(len(runs), len(steps))

    def passes(self) -> tuple[tuple[int, ...], npt.NDArray[np.float64]]:
        """Every k that the samples allow, and Pass@k at the end of each run [seeds, ks]."""
        last = [run.verdicts[-1][1] for run in self.runs]
        samples = min(len(each) for verdicts in last for by in verdicts.values() for each in by.values())
        ks = (1, *(k for k in ks_of(samples) if k > 1))
        return ks, np.array([[_mean_over_subsets(verdicts, k) for k in ks] for verdicts in last])

    def seconds(self, stage: str) -> float:
        """Median over steps and seeds of the seconds in which a stage was at work; NaN where it never was."""
        values = np.concatenate([run.record.seconds(stage) for run in self.runs])
        return float(np.nanmedian(values)) if not np.isnan(values).all() else float("nan")

    @property
    def total_seconds(self) -> float:
        """In the steps of a run, mean over seeds."""
        return float(np.mean([np.nansum(run.record.seconds("step")) for run in self.runs]))

    def total(self, key: str) -> float:
        """Sum over the steps of a run of a number of metrics.jsonl, mean over seeds."""
        return float(np.mean([np.nansum(run.record.series(key)) for run in self.runs]))


@dataclass(frozen=True)
class NotCompared:
    """Two methods between which nothing can be said, and what they lack, in words."""

    first: str
    second: str
    why: str


@dataclass(frozen=True)
class Results:
    """The comparison as far as it is finished.

    Attributes:
        methods: those that have a finished run, in the suite's order.
        missing: name of a run -> why it is not in the results.
        differences: of each pair that shares some, on the seeds and problems that both have, corrected for
            the number of pairs.
        not_compared: the other pairs.
        subsets: in the order of the first method.
        tuned: what the variants that have settings to choose have tried so far.
        part: that it is of a part of the suite, in words; empty where it is of all.
    """

    suite: Suite
    methods: tuple[Method, ...]
    missing: dict[str, str]
    differences: tuple[Difference, ...]
    not_compared: tuple[NotCompared, ...] = ()
    tuned: Mapping[str, Tuned] = field(default_factory=dict)
    part: str = ""

    @property
    def subsets(self) -> tuple[str, ...]:
        """Of the held-out problems."""
        return self.methods[0].subsets if self.methods else ()

    @property
    def has_same_seeds(self) -> bool:
        """Whether all methods have them; else their means tell of their seeds too."""
        return len({method.seeds for method in self.methods}) < 2

    def seeds_of(self, pair: Difference) -> tuple[int, ...]:
        """Those that both methods of a pair have, in the order of `Difference.by_seed`."""
        first, second = (
            next(method.seeds for method in self.methods if method.label == label)
            for label in (pair.first, pair.second)
        )
        return tuple(seed for seed in first if seed in second)


def listed(seeds: Sequence[int]) -> str:
    """Seeds by name."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def results_of(
    suite: Suite, members: Sequence[Member], failed: dict[str, str], tuned: Mapping[str, Tuned] | None = None
) -> Results:
    """Read what the runs left.

    Args:
        members: all runs of the report.
        failed: name of a run -> its last words.
        tuned: what was tried so far.
    """
    missing: dict[str, str] = {}
    others = with_other_prompts(members)
    runs: dict[str, tuple[Evaluated, ...]] = {}
    for name in suite.variants:
        own = []
        for member in sorted((m for m in members if m.variant == name), key=lambda m: m.seed):
            found = others.get(member.name) or _evaluated(member)
            if isinstance(found, str):
                missing[member.name] = failed.get(member.name) or found
            else:
                own.append(found)
        if own:
            runs[name] = tuple(own)
    accuracies = _accuracies([scores_of([run.verdicts[-1][1] for run in own]) for own in runs.values()])
    methods = [
        Method(name, suite.variants[name].label or name, own, estimated)
        for (name, own), estimated in zip(runs.items(), accuracies, strict=True)
    ]
    pairs, apart = _pairs(methods)
    return Results(suite, tuple(methods), missing, tuple(differences(pairs)), tuple(apart), tuned or {})


def _evaluated(member: Member) -> Evaluated | str:
    """What a finished run left; of another one, and of one that cannot be read, why it is in no report."""
    if (fault := member.fault()) is not None:
        return fault
    record = member.record()
    if record is None or record.recipe is None:
        # A recipe is written before all else, and packed last.
        if any((member.folder / name).is_file() for name in (METRICS, EVALUATIONS, VERDICTS)):
            return (
                f"{member.folder} has no recipe.yaml. Put it back, or remove the folder to have it made again"
            )
        return "not begun"
    if not member.is_over():
        if (done := len(record.steps)) >= record.recipe.total_steps:
            return "the evaluation after its last step is not done"
        return f"{done} of {record.recipe.total_steps} steps"
    try:
        return Evaluated(member.seed, record, verdicts_in(member.folder))
    except (SchemaError, OSError) as error:
        return f"{str(error).rstrip('.')}. Remove {member.folder} to have it carried out again"


def _accuracies(scores: Sequence[Mapping[str, Scores]]) -> list[dict[str | None, Estimate]]:
    """Of each method, all resampled at once; of a single subset the mean is its own."""
    wanted: list[tuple[int, str | None, Mapping[str, Scores]]] = []
    for place, by_subset in enumerate(scores):
        if len(by_subset) > 1:
            wanted.append((place, None, by_subset))
        wanted += [(place, subset, {subset: own}) for subset, own in by_subset.items()]
    found: list[dict[str | None, Estimate]] = [{} for _ in scores]
    for (place, subset, _), estimated in zip(wanted, estimates([each for *_, each in wanted]), strict=True):
        found[place].setdefault(None, estimated)
        found[place][subset] = estimated
    return found


def _pairs(methods: Sequence[Method]) -> tuple[list[Pair], list[NotCompared]]:
    """All pairs of methods, and those of them that share too little."""
    pairs: list[Pair] = []
    apart: list[NotCompared] = []
    for first, second in combinations(methods, 2):
        seeds = [seed for seed in first.seeds if seed in second.seeds]
        if not seeds:
            apart.append(NotCompared(first.label, second.label, "no seed in common"))
            continue
        # Together, so that a pair is one problem: a method may have had to leave some out.
        both = scores_of(
            [run.verdicts[-1][1] for method in (first, second) for run in method.runs if run.seed in seeds]
        )
        if not both:
            apart.append(NotCompared(first.label, second.label, "no problem in common"))
            continue
        ours = {subset: scores[: len(seeds)] for subset, scores in both.items()}
        theirs = {subset: scores[len(seeds) :] for subset, scores in both.items()}
        pairs.append(((first.label, second.label), ours, theirs))
    return pairs, apart


def _of_rollouts(record: RunRecord, key: str) -> npt.NDArray[np.float64]:
    """See `Method.training`, float64 [steps]."""
    stages = record.recipe.stages if record.recipe is not None else ()
    others = {stage.label for stage in stages if not stage.objective.trains_on_rollouts}
    of_others = np.array([row.get("stage") in others for row in record.steps], dtype=np.bool_)
    return np.where(of_others, np.nan, record.series(key))


def _rewards(record: RunRecord) -> dict[int, float]:
    """Steps done -> mean reward of a response, where it was kept: over several subsets their mean."""
    found: dict[int, dict[str, float]] = {}
    for row in record.evaluations:
        if row.get("reward") is not None:
            found.setdefault(row["step"], {})[row["subset"]] = row["reward"]
    return {step: rewards.get(AVERAGE, next(iter(rewards.values()))) for step, rewards in found.items()}


def _mean_over_subsets(verdicts: Verdicts, k: int | None) -> float:
    def of(subset: str) -> float:
        answers = list(verdicts[subset].values())
        if k is None:
            return float(np.mean([np.mean(each) for each in answers]))
        fewest = min(map(len, answers))
        return pass_at_k(np.array([each[:fewest] for each in answers]), k)

    return float(np.mean([of(subset) for subset in verdicts]))
