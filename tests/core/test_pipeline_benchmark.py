"""The standing pool against engines that only wait, on a clock that jumps: what a bound makes of a step."""

import asyncio

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.pipeline import JumpingLoop, main, measure


def ratio(split: str, latency: str, bound: int) -> float:
    """A step's length over its longest stage."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        case = measure(split, latency, bound, groups=16, steps=6, warm_up=12, window=0.3, scale=100.0)
        return runner.run(case)[0]


def test_on_policy_the_stages_and_the_hand_over_add_up() -> None:
    assert ratio("paper", "constant", 0) == pytest.approx((438 + 53 + 4.91) / 438)
    assert ratio("balanced", "constant", 0) == pytest.approx(2 + 0.02)


@pytest.mark.parametrize("split", ["paper", "balanced"])
@pytest.mark.parametrize("latency", ["constant", "long_tailed", "straggler"])
def test_with_a_bound_the_longest_stage_is_all(split: str, latency: str) -> None:
    assert ratio(split, latency, 2) <= 1.05
    if (split, latency) != ("balanced", "straggler"):  # nothing to spare: see docs/performance.md
        assert ratio(split, latency, 1) <= 1.1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--latency", "long-tailed"], "'long-tailed' is none of constant, long_tailed"),
        (["--split", "mine"], "'mine' is none of paper, balanced"),
        (["--bounds", "1,-1"], "'1,-1' is no list of whole numbers from 0 on"),
    ],
)
def test_what_it_does_not_know_is_refused(arguments: list[str], says: str) -> None:
    command = typer.Typer()
    command.command()(main)
    refused = CliRunner().invoke(command, [*arguments, "--jump"], env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    assert says in refused.output
