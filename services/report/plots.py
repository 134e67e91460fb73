"""The plots of a report. Each function draws one figure, or says in a sentence why it can't."""

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from services.report.records import RunRecord
from services.report.tables import STAGE_LABELS, accuracy_of, after_label, evaluation_lines, stage_lines

Values = npt.NDArray[np.float64]
Plot = Callable[[RunRecord], Figure | str]

# Okabe and Ito's colours: told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, RED, SKY, PURPLE, YELLOW = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442",
)  # fmt: skip
GREY, INK = "#9AA0A6", "#33373D"
STAGE_COLOURS = {
    "rollout": BLUE,
    "reference": "#8A8D0F",
    "teacher": ORANGE,
    "verify": PURPLE,
    "assemble": YELLOW,
    "sleep": "#2E4057",
    "old_logprobs": SKY,
    "update": GREEN,
    "weight_sync": RED,
    "checkpoint": "#7A5195",
    "evaluation": "#8C564B",
    "other": "#D5D8DC",
}
SIZE, DPI = (8.0, 4.0), 150


def reward(record: RunRecord) -> Figure | str:
    """Mean reward of the step's responses."""
    return _curves(record, "Reward", "mean reward of a response", [("reward_mean", "", BLUE)])


def accuracy(record: RunRecord) -> Figure | str:
    """Share of right responses among those trained on."""
    return _curves(record, "Accuracy in training", "right responses", [("accuracy", "", GREEN)], percent=True)


def kl_to_teacher(record: RunRecord) -> Figure | str:
    """Mean of log pi_theta - log pi_T over the sampled tokens."""
    return _curves(
        record, "KL to the teacher", "nats per token", [("kl_to_teacher", "", ORANGE)], at_zero=True
    )


def clip_fractions(record: RunRecord) -> Figure | str:
    """Share of tokens outside the clip range, each side by itself."""
    curves = [
        ("clip_fraction_low", "below 1 − eps_low", BLUE),
        ("clip_fraction_high", "above 1 + eps_high", RED),
    ]
    return _curves(record, "Clipped tokens", "share of tokens", curves, percent=True, at_zero=True)


def entropy(record: RunRecord) -> Figure | str:
    """Mean entropy of the policy's next-token distribution."""
    return _curves(record, "Entropy of the policy", "nats per token", [("entropy", "", PURPLE)], at_zero=True)


def response_length(record: RunRecord) -> Figure | str:
    """Mean length of the step's responses."""
    return _curves(record, "Response length", "tokens", [("response_length", "", SKY)])


def stage_times(record: RunRecord) -> Figure | str:
    """Seconds that each stage added, stacked, step by step."""
    lines = [line for line in stage_lines(record) if line.stage != "step"]
    if not lines:
        return "Stage times are left out: no step recorded seconds and shares of its stages."
    figure, axes = frame("Time per stage", "seconds per step")
    steps, whole = record.series("step"), record.seconds("step")
    drawn = np.zeros(len(steps))
    for line in lines:
        if line.stage == "other":
            seconds = np.maximum(np.nan_to_num(whole) - drawn, 0.0)
        else:
            seconds = np.nan_to_num(record.added_seconds(line.stage))
        if line.share >= 0.001:
            percent = f"{100 * line.share:.0f}" if line.share >= 0.01 else "<1"
            label = f"{STAGE_LABELS[line.stage]} ({percent}%)"
            axes.bar(steps, seconds, bottom=drawn, width=1.0, color=STAGE_COLOURS[line.stage], label=label)
        drawn = drawn + seconds
    _step_axis(axes, record)
    # The first steps warm everything up and would squeeze the others: cut where they stand far out.
    usual = float(np.nanquantile(whole, 0.9)) if len(whole) >= 10 else float(np.nanmax(whole))
    if np.nanmax(whole) > 2 * usual:
        axes.set_ylim(0, 1.5 * usual)
        above = [
            f"{step:.0f} ({one:.0f} s)" for step, one in zip(steps, whole, strict=True) if one > 1.5 * usual
        ]
        axes.annotate(
            f"cut off: step {', '.join(above[:4])}{', ...' if len(above) > 4 else ''}",
            (0.01, 0.97), xycoords="axes fraction", va="top", fontsize=8, color=INK,
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9
    )
    return figure


def evaluation(record: RunRecord) -> Figure | str:
    """Accuracy on held-out prompts before and after, with 95% intervals."""
    lines = evaluation_lines(record)
    if not lines:
        return "The evaluation is left out: none is recorded."
    figure, axes = frame("Accuracy on held-out prompts", "right answers (95% interval)")
    places = np.arange(len(lines), dtype=np.float64)
    pairs = (
        ("before", [line.before for line in lines], GREY),
        (after_label(record), [line.after for line in lines], GREEN),
    )
    shown = [pair for pair in pairs if any(pair[1])]
    width = 0.36
    for index, (label, accuracies, colour) in enumerate(shown):
        offset = (index - (len(shown) - 1) / 2) * (width + 0.02)
        for place, one in zip(places, accuracies, strict=True):
            if one is None:
                continue
            bars = [[one.value - one.low], [one.high - one.value]]
            first = place == places[0]
            axes.bar(place + offset, one.value, width, color=colour, label=label if first else None)
            axes.errorbar(place + offset, one.value, yerr=bars, color=INK, capsize=4, linewidth=1.2)
            axes.annotate(
                f"{100 * one.value:.0f}%", (place + offset, one.high), xytext=(0, 3),
                textcoords="offset points", ha="center", fontsize=9, color=INK,
            )  # fmt: skip
    axes.set_xticks(places, [as_written(line.subset.replace("_", " ")) for line in lines])
    axes.set_xlim(-0.6, len(lines) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.set_ylim(0, 1.1)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    return figure


def evaluation_course(record: RunRecord) -> Figure | str:
    """Accuracy on held-out prompts over the run, where it was measured in between."""
    if not any(row["when"] == "step" for row in record.evaluations):
        return ""  # not every run evaluates in between: nothing is missing
    figure, axes = frame("Held-out accuracy during the run", "right answers (95% interval)")
    for steps, rows, colour in _courses(axes, record.evaluations, "accuracy"):
        points = [one for row in rows if (one := accuracy_of([row]))]
        axes.fill_between(
            steps, [p.low for p in points], [p.high for p in points], color=colour, alpha=0.15, linewidth=0
        )
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return figure


def evaluation_reward(record: RunRecord) -> Figure | str:
    """Mean reward on held-out prompts over the run, where it was measured in between."""
    rows = [row for row in record.evaluations if row.get("reward") is not None]  # older runs did not keep it
    if not any(row["when"] == "step" for row in rows):
        return ""
    figure, axes = frame("Held-out reward during the run", "mean reward of a response")
    _courses(axes, rows, "reward")
    return figure


PLOTS: Final[dict[str, Plot]] = {
    "evaluation": evaluation,
    "evaluation_course": evaluation_course,
    "evaluation_reward": evaluation_reward,
    "reward": reward,
    "accuracy": accuracy,
    "kl_to_teacher": kl_to_teacher,
    "clip_fractions": clip_fractions,
    "entropy": entropy,
    "response_length": response_length,
    "stage_times": stage_times,
}
"""File name -> plot, in the order of the page. An empty sentence leaves a plot out without a word."""


def _curves(
    record: RunRecord,
    title: str,
    unit: str,
    curves: Sequence[tuple[str, str, str]],
    *,
    percent: bool = False,
    at_zero: bool = False,
) -> Figure | str:
    """One or more series over the steps: each step faintly, the running mean on top."""
    found = [(record.series(key), label, colour) for key, label, colour in curves]
    found = [(values, label, colour) for values, label, colour in found if not np.isnan(values).all()]
    if not found:
        return f"{title} is left out: no step recorded {' or '.join(key for key, _, _ in curves)}."
    figure, axes = frame(title, unit)
    steps = record.series("step")
    window = max(1, len(steps) // 12)
    for values, label, colour in found:
        if window == 1:
            axes.plot(steps, values, "o-", color=colour, linewidth=1.8, markersize=3.5, label=label)
        else:
            axes.plot(steps, values, color=colour, alpha=0.35, linewidth=1.0)
            axes.plot(steps, _running_mean(values, window), color=colour, linewidth=2.2, label=label)
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if at_zero and all(float(np.nanmin(values)) >= 0 for values, _, _ in found):
        axes.set_ylim(bottom=0)
    _step_axis(axes, record)
    if any(label for _, label, _ in found):
        axes.legend(loc="best", frameon=False, fontsize=9)
    if window > 1:
        note = f"thick: mean of {window} steps"
        axes.annotate(note, (1, 1.02), xycoords="axes fraction", ha="right", fontsize=8, color=GREY)
    return figure


def _courses(
    axes: Axes, evaluations: Sequence[dict[str, Any]], key: str
) -> list[tuple[Values, list[dict[str, Any]], str]]:
    """Draw a number of the evaluations over the steps, a line a subset; its steps, rows and colour."""
    subsets = list(dict.fromkeys(row["subset"] for row in evaluations))
    drawn = []
    for subset, colour in zip(subsets, _cycle(len(subsets)), strict=True):
        rows = sorted((r for r in evaluations if r["subset"] == subset), key=lambda r: r["step"])
        steps = np.array([row["step"] for row in rows], dtype=np.float64)
        label = as_written(str(subset).replace("_", " "))
        axes.plot(steps, [row[key] for row in rows], "o-", color=colour, label=label, markersize=4)
        drawn.append((steps, rows, colour))
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    return drawn


def as_written(name: str) -> str:
    """A name for matplotlib to show to the letter: two ``$`` would make a formula of it, and a leading ``_``
    would leave it out of the legend.
    """
    escaped = name.replace("$", r"\$")
    return f"\u200b{escaped}" if escaped.startswith("_") else escaped


def frame(title: str, unit: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", color=INK)
    axes.set_ylabel(unit, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(colors=INK)
    axes.grid(axis="y", color="#E5E7EA", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _step_axis(axes: Axes, record: RunRecord) -> None:
    """Label the steps, and mark where a new stage of the recipe begins."""
    steps = record.series("step")
    axes.set_xlabel("step", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlim(steps[0] - 0.5, steps[-1] + 0.5)
    stages = [row.get("stage") for row in record.steps]
    starts = [index for index in range(len(stages)) if index == 0 or stages[index] != stages[index - 1]]
    if len(starts) < 2:
        return
    for index in starts:
        if index:
            axes.axvline(steps[index] - 0.5, color=INK, linewidth=1, linestyle=":")
        axes.annotate(
            as_written(str(stages[index])), (steps[index] - 0.5, 0.0), xycoords=("data", "axes fraction"),
            xytext=(4, 4), textcoords="offset points", fontsize=8, color=INK,
            bbox={"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )  # fmt: skip


def _running_mean(values: Values, window: int) -> Values:
    """Centred mean over ``window`` steps, over what there is of it at the ends and at gaps; [steps]."""
    there = ~np.isnan(values)
    kernel = np.ones(window)
    sums = np.convolve(np.where(there, values, 0.0), kernel, mode="same")
    counts = np.convolve(there.astype(np.float64), kernel, mode="same")
    means = np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)
    return np.where(there, means, np.nan)


def _cycle(count: int) -> list[str]:
    colours = [BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY]
    return [colours[index % len(colours)] for index in range(count)]
