"""The table of an evaluation, by subset: accuracy, Pass@k, what was cut off or had no form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rlad_core.evaluation.intervals import (
    Booleans,
    Interval,
    accuracy_interval,
    mean_interval,
    share_interval,
)
from rlad_core.evaluation.measures import ks_of, mean_at_k, solved_within

AVERAGE, ALL = "average", "all"
"""The lines over several subsets: the mean over subsets, as papers' tables have it, and over problems."""


@dataclass(frozen=True)
class Share:
    """A share with its interval."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class EvaluationRow:
    """One line of the table.

    Attributes:
        subset: for instance "3_people"; or `AVERAGE`, the unweighted mean of the subsets' lines; or `ALL`,
            every problem once.
        prompts: number of distinct prompts.
        samples: responses per prompt.
        accuracy: share of right responses over all prompts and samples, which is Mean@samples.
        interval: of the accuracy, over problems: see `accuracy_interval`.
        pass_at_k: mean of the unbiased estimates, see `pass_at_k`; k is in `k`.
        k: the largest k of `pass_at`, at most `samples`.
        truncated: responses cut off by the length limit; None: nobody told of each whether it was.
        cut_off: their share.
        format_errors: share of the responses that were wrong because they had no answer that could be read.
        pass_at: Pass@k by k, of several k.
        reward: mean over all prompts and samples; None: nobody told.
    """

    subset: str
    prompts: int
    samples: int
    accuracy: float
    interval: Interval
    pass_at_k: float
    k: int
    truncated: int | None
    cut_off: float | None = 0.0
    format_errors: float = 0.0
    pass_at: Mapping[int, Share] = field(default_factory=dict)
    reward: float | None = None


def evaluation_rows(
    subsets: Sequence[str],
    prompt_ids: Sequence[str],
    correct: npt.ArrayLike,
    truncated: npt.ArrayLike | None,
    *,
    unreadable: npt.ArrayLike | None = None,
    rewards: npt.ArrayLike | None = None,
    ks: Sequence[int] = (),
) -> list[EvaluationRow]:
    """One row per subset, in order of first appearance; where there are several, `AVERAGE` and `ALL` too.

    A problem may be in several subsets: it counts in each, and once in `ALL`, as it is in the first.

    Args:
        subsets, prompt_ids, correct, truncated: one entry per response, in any order; every prompt must have
            the same number of responses in each of its subsets. `truncated` is None where nobody told.
        unreadable: whether a response was wrong for its form; None: none was.
        rewards: of the responses; None: rows tell none.
        ks: of Pass@k; none: see `ks_of`.

    Raises:
        ValueError: nothing to evaluate, lengths differ, or some prompt has fewer responses than another
            (names it): a missing response would shift the accuracy unseen.
    """
    right = np.asarray(correct, dtype=np.bool_)
    cut = None if truncated is None else np.asarray(truncated, dtype=np.bool_)
    formless = np.zeros_like(right) if unreadable is None else np.asarray(unreadable, dtype=np.bool_)
    paid = None if rewards is None else np.asarray(rewards, dtype=np.float64)
    told = right.size if paid is None else paid.size
    flags = right.size if cut is None else cut.size
    sizes = {len(subsets), len(prompt_ids), right.size, flags, formless.size, told}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(
            f"one entry per response is wanted: {len(subsets)} subsets, {len(prompt_ids)} prompts, "
            f"{right.size} verdicts, {'no' if cut is None else flags} truncation flags, "
            f"{formless.size} form flags, "
            f"{'no' if paid is None else told} rewards"
        )
    names = list(dict.fromkeys(subsets))
    labels, ids = np.asarray(subsets), np.asarray(prompt_ids)

    def row(name: str, chosen: Booleans) -> EvaluationRow:
        made = _row(name, ids[chosen], right[chosen], formless[chosen], ks)
        if cut is not None:
            made = replace(made, truncated=int(cut[chosen].sum()), cut_off=float(cut[chosen].mean()))
        return made if paid is None else replace(made, reward=float(paid[chosen].mean()))

    rows = [row(name, labels == name) for name in names]
    if len(rows) == 1:
        return rows
    first: dict[str, str] = {}
    for name in reversed(names):
        first |= dict.fromkeys(ids[labels == name].tolist(), name)
    whole = row(ALL, np.asarray([first[prompt] for prompt in ids.tolist()]) == labels)
    return [*rows, _average(rows, whole), whole]


def overall(rows: Sequence[EvaluationRow]) -> float:
    """The accuracy over all problems, each once: that of `ALL`, or of the only subset.

    Args:
        rows: of `evaluation_rows`.
    """
    return rows[-1].accuracy


def _row(
    subset: str,
    ids: npt.NDArray[np.str_],
    right: Booleans,
    formless: Booleans,
    ks: Sequence[int],
) -> EvaluationRow:
    prompts, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    samples = int(counts.max())
    if (short := np.flatnonzero(counts < samples)).size:
        raise ValueError(
            f"subset {subset!r}: prompt {str(prompts[short[0]])!r} has {counts[short[0]]} responses "
            f"where others have {samples}; evaluate them all"
        )
    verdicts = right[np.argsort(inverse, kind="stable")].reshape(-1, samples)
    pass_at = {}
    for k in sorted(set(ks or ks_of(samples))):
        solved = solved_within(verdicts, k)
        # A value is made of the disjoint groups of k that the samples hold.
        pass_at[k] = Share(float(solved.mean()), share_interval(solved, samples // k))
    largest = max(pass_at)
    return EvaluationRow(
        subset=subset,
        prompts=len(prompts),
        samples=samples,
        accuracy=mean_at_k(verdicts),
        interval=accuracy_interval(verdicts),
        pass_at_k=pass_at[largest].value,
        k=largest,
        truncated=None,
        cut_off=None,
        format_errors=float(formless.mean()),
        pass_at=pass_at,
    )


def _average(rows: Sequence[EvaluationRow], whole: EvaluationRow) -> EvaluationRow:
    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    pass_at = {
        k: Share(
            mean([row.pass_at[k].value for row in rows]),
            mean_interval([row.pass_at[k].value for row in rows], [row.pass_at[k].interval for row in rows]),
        )
        for k in whole.pass_at
    }
    rewards = [row.reward for row in rows if row.reward is not None]
    cut_off = [row.cut_off for row in rows if row.cut_off is not None]
    return EvaluationRow(
        subset=AVERAGE,
        prompts=whole.prompts,
        samples=whole.samples,
        accuracy=mean([row.accuracy for row in rows]),
        interval=mean_interval([row.accuracy for row in rows], [row.interval for row in rows]),
        pass_at_k=pass_at[whole.k].value,
        k=whole.k,
        truncated=whole.truncated,
        cut_off=mean(cut_off) if cut_off else None,
        format_errors=mean([row.format_errors for row in rows]),
        pass_at=pass_at,
        reward=mean(rewards) if rewards else None,
    )
