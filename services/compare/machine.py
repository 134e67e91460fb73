"""``results.json``: everything in the report, for machines."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rlad_core.evaluation import AVERAGE, Difference
from services.compare.plots import Plot, plots_of
from services.compare.results import Method, Results
from services.compare.tables import accuracy_rows, stage_rows

_DIGITS = 5
"""Of a point of a curve."""
_NAMES = {"training_reward": "reward_mean"}
"""Of curves that are called otherwise than their figures."""
# JSON's own strings have no line breaks, so what is found here is no part of one.
_NUMBERS = re.compile(r'\[\n\s*([^\[\]{}"]*?)\n\s*\]')


def machine_table(results: Results, plots: Sequence[Plot] | None = None) -> dict[str, Any]:
    """Everything in the report.

    Args:
        plots: of the results, where they are there already.
    """
    stages, times = stage_rows(results)
    return {
        "suite": results.suite.model_dump(mode="json"),
        "accuracy": [_plain(row) for row in accuracy_rows(results)],
        "pass_at": {method.label: _passes(method) for method in results.methods},
        "differences": [_pair(results, each) for each in results.differences],
        "not_compared": [asdict(each) for each in results.not_compared],
        "seconds_per_step": {"stages": stages, "methods": times},
        "curves": _curves(results, plots_of(results) if plots is None else plots),
        "tuning": {name: list(each.tries) for name, each in results.tuned.items()},
        "missing": results.missing,
    }


def to_json(table: dict[str, Any]) -> str:
    """As text: indented, but a list of numbers is one line."""
    text = json.dumps(table, indent=1, allow_nan=False) + "\n"
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def _passes(method: Method) -> dict[str, list[float]]:
    ks, values = method.passes()
    return {str(k): values[:, index].tolist() for index, k in enumerate(ks)}


def _pair(results: Results, pair: Difference) -> dict[str, Any]:
    seeds = map(str, results.seeds_of(pair))
    return {**asdict(pair), "by_seed": dict(zip(seeds, pair.by_seed, strict=True))}


def _curves(results: Results, plots: Sequence[Plot]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {
        method.label: {"seeds": list(method.seeds)} for method in results.methods
    }
    for plot in plots:
        for line in plot.lines if not plot.doubling else ():  # Pass@k by k has a place of its own
            runs = [[float(f"{value:.{_DIGITS}g}") for value in run] for run in line.runs.tolist()]
            name = _NAMES.get(plot.name, plot.name)
            found[line.label][name] = {"x": [int(step) for step in line.x], "seeds": runs}
    return found


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    subsets = {subset: asdict(estimate) for subset, estimate in row["subsets"].items()}
    return {**row, "seeds": len(row["seeds"]), "subsets": subsets, AVERAGE: asdict(row[AVERAGE])}
