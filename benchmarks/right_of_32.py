"""Pass@k of a comparison's models, each of which was asked for many responses to each held-out problem.

    rlad evaluate rlad:kk-student FOLDER/runs/*/export --people 2 --count 500 --k 32 --out ANSWERS
    python -m benchmarks.right_of_32 FOLDER --answers ANSWERS     # writes FOLDER/right_of_32.json first
    python -m benchmarks.right_of_32 docs/results/kk_tiny_tuned   # from what is there

Prints the table and the differences of all pairs, with 95% intervals of a bootstrap over problems and seeds,
and draws FOLDER/pass_at_k.png in the colours of the comparison's figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rlad_core.evaluation import differences, ks_of, verdicts_of
from rlad_core.evaluation.measures import solved_within
from services.compare.drawing import write_png
from services.compare.kept_suite import kept_suite
from services.compare.plots import Line, Plot
from services.compare.suite import Suite
from services.compare.tables import points
from services.evaluate.store import SETTINGS
from services.report.answers import kept_in

TABLE, PLOT = "right_of_32.json", "pass_at_k.png"
BEFORE = "before"
Solved = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """What was trained one way, with each seed; or the policy before.

    Attributes:
        number: by which it has its colour.
        right: int [seeds, problems], how many of the responses to a problem are.
    """

    label: str
    number: int
    seeds: tuple[int, ...]
    right: npt.NDArray[np.int64]

    def solved(self, k: int, samples: int) -> Solved:
        """Pass@k of each problem [seeds, problems]."""
        places = np.arange(samples)
        return np.array([solved_within(places < row[:, None], k) for row in self.right])


def counted(answers: Path) -> dict[str, Any]:
    """How many responses of each run are right of each problem, from what `rlad evaluate` left.

    Raises:
        ValueError: its folders are not all of the same problems, samples and sampling.
    """
    right: dict[str, dict[str, int]] = {}
    sampled: set[tuple[float, float, int]] = set()
    for file in sorted(answers.glob(f"*/{SETTINGS}")):
        settings = json.loads(file.read_text(encoding="utf-8"))
        model = Path(settings["label"])
        run = model.parent.name if model.name == "export" else BEFORE
        found = verdicts_of(kept_in(file.parent)[0].read()).values()
        verdicts = {problem: each for subset in found for problem, each in subset.items()}
        right[run] = {problem: sum(each) for problem, each in verdicts.items()}
        sampled |= {(settings["temperature"], settings["top_p"], len(each)) for each in verdicts.values()}
    if len(sampled) != 1 or len({frozenset(each) for each in right.values()}) != 1:
        raise ValueError(
            f"{answers} has no models that were asked the same: temperature, top_p and responses to a "
            f"problem are {sorted(sampled)}. Write the --out of one rlad evaluate"
        )
    [(temperature, top_p, samples)] = sampled
    problems = sorted(next(iter(right.values())))
    counts = {run: [each[problem] for problem in problems] for run, each in right.items()}
    told = {"temperature": temperature, "top_p": top_p, "samples": samples}
    return {**told, "problems": problems, "right": counts}


def models_of(suite: Suite, right: Mapping[str, list[int]]) -> Iterator[Model]:
    """Those of the suite's order that were asked, after the policy before."""
    if BEFORE in right:
        yield Model(BEFORE, len(suite.variants), (), np.array([right[BEFORE]]))
    for number, (name, variant) in enumerate(suite.variants.items()):
        if seeds := tuple(seed for seed in suite.seeds if f"{name}-seed{seed}" in right):
            counts = [right[f"{name}-seed{seed}"] for seed in seeds]
            yield Model(variant.label or name, number, seeds, np.array(counts))


def rows(models: list[Model], samples: int) -> Iterator[str]:
    """The table, as Markdown."""
    ks = ks_of(samples)
    names = [f"Mean@{samples}", *(f"Pass@{k}" for k in ks), f"Pass@{samples} of each seed"]
    yield f"| % | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for model in models:
        means = [100 * model.solved(k, samples).mean() for k in (1, *ks)]
        each = [f"{100 * value:.1f}" for value in model.solved(samples, samples).mean(axis=1)]
        cells = [*(f"{mean:.1f}" for mean in means), ", ".join(each) if model.seeds else ""]
        yield f"| {model.label} | {' | '.join(cells)} |"


def pairs(models: list[Model], samples: int, k: int) -> Iterator[str]:
    """Each model against each before it, the policy before being the same with all seeds."""
    wanted = []
    for first, second in combinations(models, 2):
        seeds = [seed for seed in second.seeds if seed in first.seeds or not first.seeds]
        if seeds:
            scores = [
                model.solved(k, samples)[[model.seeds.index(s) if model.seeds else 0 for s in seeds]]
                for model in (first, second)
            ]
            wanted.append(((first.label, second.label), {"": scores[0]}, {"": scores[1]}))
    for pair in differences(wanted):
        yield f"{pair.second} against {pair.first}: {points(pair.difference)}"


def plot_of(models: list[Model], samples: int) -> Plot:
    """Pass@k by k."""
    ks = (1, *ks_of(samples))
    lines = [
        Line(
            model.number, model.label, model.label, np.array(ks, float), model.seeds,
            np.array([model.solved(k, samples).mean(axis=1) for k in ks]).T,
        )
        for model in models
    ]  # fmt: skip
    return Plot("pass_at_k", "Pass@k at the end", "k", "mean over seeds, and their range", tuple(lines),
                percent=True, doubling=True)  # fmt: skip


def main() -> None:
    """Table, differences and figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="Of the comparison, with its suite.yaml.")
    parser.add_argument("--answers", type=Path, help="Of rlad evaluate, to count in.")
    told = parser.parse_args()
    if (suite := kept_suite(told.folder)) is None:
        parser.error(f"{told.folder} has no suite.yaml. Write the folder of a comparison")
    file = told.folder / TABLE
    if told.answers is not None:
        file.write_text(json.dumps(counted(told.answers)) + "\n", encoding="utf-8")
    table = json.loads(file.read_text(encoding="utf-8"))
    samples, models = table["samples"], list(models_of(suite, table["right"]))
    print("\n".join(rows(models, samples)))
    for k, name in ((1, f"Mean@{samples}"), (samples, f"Pass@{samples}")):
        print(f"\n{name}, points [95% interval]:")
        print("\n".join(pairs(models, samples, k)))
    write_png(plot_of(models, samples), told.folder / PLOT)


if __name__ == "__main__":
    main()
