"""Draws where TRRD's trust region lies, for a confident, an agreeing and a doubting teacher.

    python -m benchmarks.trust_regions --out docs/images/trust-regions.png

For each teacher, the loss of one token over how far the policy has moved from the old one: with A > 0 it
falls until the upper clip, with A < 0 until the lower one. The curves are computed by
`rlad_core.objectives.trrd`, the vertical lines by the formula of section 4.1: log(1 + eps) - (1 - alpha) *
log(pi_old / pi_T).
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rlad_core.objectives import TokenBatch
from rlad_core.objectives.trrd import TRRD

TEACHERS = {"confident": -0.3, "agrees": 0.0, "doubts": 0.3}
"""log(pi_old / pi_T): negative where the teacher holds the token more likely than the old policy."""
COLOURS = {1.0: "#0072B2", -1.0: "#D55E00"}


def losses(objective: TRRD, moves: torch.Tensor, gap: float, advantage: float) -> torch.Tensor:
    """The token's loss where log(pi_theta / pi_old) is each of `moves`, [T]."""
    found = []
    for move in moves:
        old = torch.tensor([-1.0], dtype=torch.float64)
        batch = TokenBatch(
            policy_logprobs=(old + move).requires_grad_(),
            old_logprobs=old,
            rollout_logprobs=old,
            advantages=torch.tensor([advantage], dtype=torch.float64),
            weights=torch.ones(1, dtype=torch.float64),
            teacher_logprobs=old - gap,
        )
        found.append(objective(batch, 0).loss.detach())
    return torch.stack(found)


def bound(objective: TRRD, gap: float, advantage: float) -> float:
    """log(pi_theta / pi_old) at which the clip begins."""
    side = math.log1p(objective.eps_high) if advantage > 0 else math.log1p(-objective.eps_low)
    return side - (1 - objective.alpha) * gap


def draw() -> Figure:
    """One panel for each teacher."""
    objective, moves = TRRD(), torch.linspace(-0.7, 0.7, 281, dtype=torch.float64)
    figure = Figure(figsize=(10, 3.2), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(TEACHERS), sharey=True)
    for axes, (name, gap) in zip(panels, TEACHERS.items(), strict=True):
        _panel(axes, objective, moves, gap)
        axes.set_title(f"teacher {name}: log(π_old/π_T) = {gap:+.1f}", fontsize=9)
        axes.set_xlabel("log(π_θ / π_old)", fontsize=9)
    panels[0].set_ylabel("loss of the token", fontsize=9)
    panels[0].legend(frameon=False, fontsize=8, loc="lower left")
    return figure


def _panel(axes: Axes, objective: TRRD, moves: torch.Tensor, gap: float) -> None:
    for advantage, colour in COLOURS.items():
        values = losses(objective, moves, gap, advantage)
        axes.plot(moves.tolist(), values.tolist(), color=colour, label=f"A = {advantage:+.0f}")
        axes.axvline(bound(objective, gap, advantage), color=colour, linestyle=":", linewidth=1)
    axes.axvline(0, color="#9AA0A6", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def main() -> None:
    """Write the figure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("trust-regions.png"))
    out = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    draw().savefig(out, format="png")
    print(out)


if __name__ == "__main__":
    main()
