"""The standing pool against engines that only wait, on a clock that jumps: what a bound makes of a step."""

import asyncio

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.pipeline import JumpingLoop, main, measure


def found(
    split: str, latency: str, bound: int, groups: int = 16, steps: int = 6, warm_up: int = 12
) -> tuple[float, float]:
    """A step's length over its longest stage, and the share of tokens that were too old."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        case = measure(
            split, latency, bound, groups=groups, steps=steps, warm_up=warm_up, window=0.3, scale=100.0
        )
        ratio, _, _, old = runner.run(case)
        return ratio, old


def ratio(split: str, latency: str, bound: int) -> float:
    """The first of the two."""
    return found(split, latency, bound)[0]


def test_on_policy_the_stages_and_the_hand_over_add_up() -> None:
    assert ratio("paper", "constant", 0) == pytest.approx((438 + 53 + 4.91) / 438)
    assert ratio("balanced", "constant", 0) == pytest.approx(2 + 0.02)


@pytest.mark.parametrize("split", ["paper", "balanced"])
@pytest.mark.parametrize("latency", ["constant", "long_tailed", "straggler"])
def test_with_a_bound_the_longest_stage_is_all(split: str, latency: str) -> None:
    assert ratio(split, latency, 2) <= 1.05
    if (split, latency) != (
        "balanced",
        "straggler",
    ):  # ten stragglers, and a window of 9
        assert ratio(split, latency, 1) <= 1.1


@pytest.mark.parametrize("groups", [32, 64])
def test_with_a_bound_of_one_a_straggler_holds_up_no_step(groups: int) -> None:
    ratio, old = found("balanced", "straggler", 1, groups, steps=30, warm_up=15)
    assert ratio <= 1.1
    assert old <= 0.1


def test_what_is_spare_is_begun_for_the_slow_alone() -> None:
    assert found("balanced", "constant", 1, 32, steps=20) == (pytest.approx(1.01), 0.0)
    assert found("paper", "long_tailed", 1, 32, steps=20)[1] <= 0.3


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
