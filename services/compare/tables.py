"""The tables of a comparison: the paper's Table 1 and Table 4, and the differences of pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from rlad_core.evaluation import AVERAGE, Difference, Estimate
from rlad_core.metric_specs import STAGES
from services.compare.diverged import in_words
from services.compare.results import Method, Results, listed
from services.report.teacher_cost import teacher_cost

_MOST_PAIRS = 10
"""On a terminal."""
_REAL = 0.05
"""The corrected p below which a difference is called so."""


def said(estimate: Estimate) -> str:
    """In percent with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:.1f}"
    return f"{100 * estimate.value:.1f} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


def points(estimate: Estimate) -> str:
    """A difference in percentage points with its interval."""
    if estimate.low is None or estimate.high is None:
        return f"{100 * estimate.value:+.1f}"
    return f"{100 * estimate.value:+.1f} [{100 * estimate.low:+.1f}, {100 * estimate.high:+.1f}]"


def by_seed(results: Results, pair: Difference) -> list[str]:
    """The difference of each seed in percentage points; nothing of a single one."""
    seeds = results.seeds_of(pair)
    if len(seeds) < 2:
        return []
    return [f"{seed}: {100 * value:+.1f}" for seed, value in zip(seeds, pair.by_seed, strict=True)]


def p_said(value: float | None) -> str:
    """A p-value."""
    return "–" if value is None else f"{value:.2g}"


def no_spread(results: Results) -> str:
    """Why pairs with several seeds have no t-test; empty where all have one."""
    if not any(pair.t_test is None for pair in results.differences if pair.seeds > 1):
        return ""
    return (
        "A dash stands where all seeds differ by the same: a t-test judges by their spread, of which there "
        "is none, and so few seeds do not make it certain"
    )


def seeds_remark(results: Results) -> str:
    """What a reader of the means has to know of their seeds; empty where all have the same."""
    if results.has_same_seeds:
        return ""
    return (
        "The methods do not all have the same seeds, so a mean may be higher for its seeds alone; pairs are "
        "compared on the seeds that both have"
    )


def interval_words(results: Results) -> str:
    """What the intervals of the methods' accuracies are over."""
    single = [len(method.seeds) == 1 for method in results.methods]
    if all(single):
        return "over problems"
    return "over problems and seeds" + (", of a method with one seed over problems" if any(single) else "")


def not_compared(results: Results) -> list[str]:
    """Pairs of which nothing is said, a line for each reason."""
    found: dict[str, list[str]] = {}
    for pair in results.not_compared:
        found.setdefault(pair.why, []).append(f"{pair.first} and {pair.second}")
    return [f"Not compared, {why}: {'; '.join(pairs)}." for why, pairs in found.items()]


def outcome_of(tried: Mapping[str, Any]) -> str:
    """Of a try as ``tuning.json`` has it: its accuracy in percent, or that it diverged."""
    if (steps := tried.get("diverged_after")) is not None:
        return in_words(steps)
    return f"{100 * tried['accuracy']:.1f}"


def accuracy_rows(results: Results) -> list[dict[str, Any]]:
    """Table 1 of the paper: a method a row, its accuracy on each subset and their mean, and what it took."""
    return [
        {
            "method": method.label,
            "seeds": method.seeds,
            "subsets": {
                subset: method.accuracy(subset) for subset in results.subsets if subset in method.subsets
            },
            AVERAGE: method.accuracy(),
            "tokens": method.total("tokens"),
            "hours": method.total_seconds / 3600,
        }
        for method in results.methods
    ]


def stage_rows(results: Results) -> tuple[list[str], list[dict[str, Any]]]:
    """Table 4 of the paper: the stages that took time at all, and the seconds of each for each method."""
    stages: list[str] = [
        stage for stage in STAGES if any(method.seconds(stage) > 0 for method in results.methods)
    ]
    rows = [
        {
            "method": method.label,
            "seconds": {stage: finite(method.seconds(stage)) for stage in stages},
            "teacher_share": _share(method),
        }
        for method in results.methods
    ]
    return stages, rows


def _share(method: Method) -> float | None:
    """What the teacher adds to a step that has one, of the step without it, as the paper counts; mean over
    seeds. 0 where all of it is hidden behind other work, None where no step has a teacher.
    """
    costs = [cost.share for run in method.runs if (cost := teacher_cost(run.record)) is not None]
    return finite(float(np.mean(costs))) if costs else None


def terminal_table(results: Results) -> Table:
    """Table 1 for the terminal."""
    table = Table(title=f"{escape(results.suite.name)}: accuracy on held-out problems, % [95% interval]")
    table.add_column("method")
    table.add_column("mean of", justify="right")
    for name in (*results.subsets, AVERAGE) if len(results.subsets) > 1 else results.subsets:
        table.add_column(escape(name.replace("_", " ")), justify="right")
    for row in accuracy_rows(results):
        cells = [said(row["subsets"][s]) if s in row["subsets"] else "–" for s in results.subsets]
        average = [said(row[AVERAGE])] if len(results.subsets) > 1 else []
        table.add_row(escape(row["method"]), listed(row["seeds"]), *cells, *average)
    return table


def terminal_pairs(results: Results) -> Table:
    """The differences for the terminal, the surest first."""
    pairs = sorted(results.differences, key=lambda pair: math.inf if pair.p_value is None else pair.p_value)
    of = f", the surest {_MOST_PAIRS} of {len(pairs)} pairs" if len(pairs) > _MOST_PAIRS else ""
    several = any(pair.seeds > 1 for pair in pairs)
    caption = "p: bootstrap, corrected for all pairs" + ("; t-test: over the seeds alone" if several else "")
    if reason := no_spread(results):
        caption += f". {reason}"
    table = Table(title=f"differences, points [95% interval]{of}", caption=caption)
    table.add_column("pair")
    for name in ("points", *(["by seed"] if several else []), "p", *(["t-test"] if several else [])):
        table.add_column(name, justify="right")
    for pair in pairs[:_MOST_PAIRS]:
        own = ["\n".join(by_seed(results, pair))] if several else []
        t_test = [p_said(pair.t_test)] if several else []
        what = escape(f"{pair.second} against {pair.first}")
        table.add_row(what, points(pair.difference), *own, p_said(pair.adjusted), *t_test)
    return table


def finite(value: float) -> float | None:
    """As JSON has a number: null where it is none."""
    return value if math.isfinite(value) else None


def real(results: Results) -> Sequence[str]:
    """The differences that hold after correction, in words."""
    found = []
    for each in results.differences:
        if each.adjusted is None or each.adjusted >= _REAL:
            continue
        better, worse = (each.second, each.first) if each.difference.value > 0 else (each.first, each.second)
        found.append(f"{better} over {worse}: {100 * abs(each.difference.value):.1f} points")
    return found
