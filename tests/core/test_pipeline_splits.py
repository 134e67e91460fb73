"""A split of the pipeline benchmark is a name, or seconds of both stages."""

import asyncio

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.pipeline import SPLITS, main, measure, seconds_of
from benchmarks.waiting_engine import JumpingLoop


def test_names_and_numbers_say_the_same() -> None:
    assert seconds_of("paper") == seconds_of("438/53") == SPLITS["paper"]
    assert seconds_of("250.5/241") == (250.5, 241.0)


def test_a_split_of_ones_own_is_measured() -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        case = measure("100/300", "constant", 0, groups=2, steps=2, warm_up=1, window=0.3, scale=100.0)
        # Both stages and the hand-over, a hundredth of them, over the longer one.
        assert runner.run(case).ratio == pytest.approx((100 + 300 + 4) / 300)


@pytest.mark.parametrize(
    "split", ["250", "250/", "/241", "250/241/1", "0/241", "250/0", "-1/241", "nan/1", "inf/1", "1/x", ""]
)
def test_nonsense_is_refused(split: str) -> None:
    command = typer.Typer()
    command.command()(main)
    refused = CliRunner().invoke(command, ["--split", split, "--jump"], env={"COLUMNS": "300"})
    assert refused.exit_code == 2
    assert f"{split!r} is none of paper, balanced, and no two numbers" in refused.output
