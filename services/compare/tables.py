"""The tables of a comparison: the paper's Table 1 and Table 4, differences, and all of it for machines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table

from rlad_core.evaluation import AVERAGE, Estimate
from rlad_core.metrics import STAGES
from services.compare.diverged import in_words
from services.compare.results import Method, Results
from services.report.teacher_cost import teacher_cost


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
            "seeds": len(method.seeds),
            "subsets": {
                subset: method.accuracy(subset) for subset in results.subsets if subset in method.scores
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
            "seconds": {stage: _finite(method.seconds(stage)) for stage in stages},
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
    return _finite(float(np.mean(costs))) if costs else None


def terminal_table(results: Results) -> Table:
    """Table 1 for the terminal."""
    table = Table(title=f"{escape(results.suite.name)}: accuracy on held-out problems, % [95% interval]")
    table.add_column("method")
    table.add_column("seeds", justify="right")
    for name in (*results.subsets, AVERAGE) if len(results.subsets) > 1 else results.subsets:
        table.add_column(escape(name.replace("_", " ")), justify="right")
    for row in accuracy_rows(results):
        cells = [said(row["subsets"][s]) if s in row["subsets"] else "–" for s in results.subsets]
        average = [said(row[AVERAGE])] if len(results.subsets) > 1 else []
        table.add_row(escape(row["method"]), str(row["seeds"]), *cells, *average)
    return table


def machine_table(results: Results) -> dict[str, Any]:
    """Everything in the report, as JSON has it."""
    stages, times = stage_rows(results)
    return {
        "suite": results.suite.model_dump(mode="json"),
        "accuracy": [_plain(row) for row in accuracy_rows(results)],
        "pass_at": {m.label: _passes(m) for m in results.methods},
        "differences": [asdict(each) for each in results.differences],
        "seconds_per_step": {"stages": stages, "methods": times},
        "curves": {method.label: _curves(method) for method in results.methods},
        "tuning": {name: list(each.tries) for name, each in results.tuned.items()},
        "missing": results.missing,
    }


def _passes(method: Method) -> dict[str, list[float]]:
    ks, values = method.passes()
    return {str(k): values[:, index].tolist() for index, k in enumerate(ks)}


def _curves(method: Method) -> dict[str, Any]:
    found = {}
    for name, (x, values) in {
        "held_out": method.held_out(),
        "reward_mean": method.training("reward_mean"),
    }.items():
        found[name] = {"x": x.tolist(), "seeds": [[_finite(v) for v in row] for row in values.tolist()]}
    return {"seeds": list(method.seeds), **found}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    subsets = {subset: asdict(estimate) for subset, estimate in row["subsets"].items()}
    return {**row, "subsets": subsets, AVERAGE: asdict(row[AVERAGE])}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def real(results: Results, level: float = 0.05) -> Sequence[str]:
    """The differences that hold after correction, in words."""
    found = []
    for each in results.differences:
        if each.adjusted is None or each.adjusted >= level:
            continue
        better, worse = (each.second, each.first) if each.difference.value > 0 else (each.first, each.second)
        found.append(f"{better} over {worse}: {100 * abs(each.difference.value):.1f} points")
    return found
