"""The figures of a comparison as data, which the page draws with plotly and the PNG files with matplotlib."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.compare.results import Curve, Method, Results, listed

Values = npt.NDArray[np.float64]
FILES = (
    *("held_out.png", "held_out_reward.png", "training_reward.png", "pass_at_*.png"),
    *("entropy.png", "kl_to_teacher.png", "response_length.png"),
)
"""Those of all figures that a report may have."""


@dataclass(frozen=True)
class Line:
    """One method, with its number among all: a value of each run [seeds, n] at x [n].

    Attributes:
        label: of the method.
        legend: the same, with its seeds where not all methods have the same.
    """

    number: int
    label: str
    legend: str
    x: Values
    seeds: tuple[int, ...]
    runs: Values

    @property
    def mean(self) -> Values:
        """Over seeds [n]."""
        return np.asarray(self.runs.mean(axis=0))

    @property
    def low(self) -> Values:
        """The lowest of the seeds [n]."""
        return np.asarray(self.runs.min(axis=0))

    @property
    def high(self) -> Values:
        """The highest of the seeds [n]."""
        return np.asarray(self.runs.max(axis=0))


@dataclass(frozen=True)
class Plot:
    """One figure.

    Attributes:
        name: of its file.
        without: labels of the methods that have no such numbers.
        percent: values are shares.
        doubling: each doubling of x takes as much room.
    """

    name: str
    title: str
    x_title: str
    y_title: str
    lines: tuple[Line, ...]
    without: tuple[str, ...] = ()
    percent: bool = False
    doubling: bool = False

    @property
    def remark(self) -> str:
        """What a reader would miss in it; empty where nothing is missing."""
        names = "; ".join(self.without)
        return f"Without {names}, whose runs have no such numbers." if names else ""

    @property
    def doublings(self) -> list[int]:
        """1, 2, 4, ... up to the last x."""
        last = max(int(line.x.max()) for line in self.lines)
        return [2**power for power in range(last.bit_length())]


def plots_of(results: Results) -> list[Plot]:
    """All figures that the runs have data for."""
    labels = [method.label for method in results.methods]
    return [
        replace(plot, without=tuple(label for label in labels if label not in drawn))
        for plot in _all(results)
        if (drawn := {line.label for line in plot.lines})
    ]


def _all(results: Results) -> Iterator[Plot]:
    """Figure 1 of the paper (training and validation), Figure 2 (Mean@k and Pass@k), and Pass@k by k."""
    methods = results.methods
    if not methods:
        return

    def lines(curves: Sequence[Curve]) -> tuple[Line, ...]:
        return tuple(_lines(methods, curves, with_seeds=not results.has_same_seeds))

    yield Plot(
        "held_out", "Accuracy on held-out problems", "steps", "mean over subsets",
        lines([method.held_out() for method in methods]), percent=True,
    )  # fmt: skip
    yield Plot(
        "held_out_reward", "Reward on held-out problems", "steps", "mean reward of a response",
        lines([method.held_out_reward() for method in methods]),
    )  # fmt: skip
    yield Plot(
        "training_reward", "Reward in training", "step", "mean reward of a response",
        lines([method.training("reward_mean") for method in methods]),
    )  # fmt: skip
    ks = min((method.passes()[0] for method in methods), key=len)
    if len(ks) > 1:
        yield Plot(
            f"pass_at_{ks[-1]}", f"Pass@{ks[-1]} on held-out problems", "steps", "mean over subsets",
            lines([method.held_out(ks[-1]) for method in methods]), percent=True,
        )  # fmt: skip
        yield Plot(
            "pass_at_k", "Pass@k at the end", "k", "mean over subsets",
            lines([(np.array(k, float), values) for k, values in map(Method.passes, methods)]),
            percent=True, doubling=True,
        )  # fmt: skip
    for key, title, unit in (
        ("entropy", "Entropy of the policy", "nats per token"),
        ("kl_to_teacher", "KL to the teacher", "nats per token"),
        ("response_length", "Response length", "tokens"),
    ):
        yield Plot(key, title, "step", unit, lines([method.training(key) for method in methods]))


def _lines(methods: Sequence[Method], curves: Sequence[Curve], *, with_seeds: bool) -> Iterator[Line]:
    for number, (method, (x, values)) in enumerate(zip(methods, curves, strict=True)):
        there = ~np.isnan(values).any(axis=0)
        if there.any():
            legend = f"{method.label} ({listed(method.seeds)})" if with_seeds else method.label
            yield Line(number, method.label, legend, x[there], method.seeds, values[:, there])
