"""The standing pool against engines that only wait, on a clock that jumps: what a bound makes of a step."""

import asyncio
import math

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from benchmarks.pipeline import Found, main, measure
from benchmarks.waiting_engine import Engine, JumpingLoop, Sampled


def found(
    split: str, latency: str, bound: int, groups: int = 16, steps: int = 6, warm_up: int = 12, seed: int = 0
) -> Found:
    sizes = {"groups": groups, "steps": steps, "warm_up": warm_up, "seed": seed}
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(measure(split, latency, bound, window=0.3, scale=100.0, **sizes))


def ratio(split: str, latency: str, bound: int) -> float:
    """A step's length over its longest stage."""
    return found(split, latency, bound).ratio


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
    """On average over what is drawn: of a few steps one or two may wait."""
    of = [found("balanced", "straggler", 1, groups, steps=30, warm_up=15, seed=seed) for seed in range(4)]
    assert np.mean([each.ratio for each in of]) <= 1.1
    assert np.mean([each.old for each in of]) <= 0.11


def test_stragglers_in_a_third_of_the_batches_hold_up_few_steps() -> None:
    """With fractions of a spare group, paid out when they come to a whole one, it was 1.15."""
    of = [found("balanced", "rare_straggler", 1, 32, steps=30, warm_up=15, seed=seed) for seed in range(4)]
    assert np.mean([each.ratio for each in of]) <= 1.13
    assert np.mean([each.groups_old for each in of]) <= 0.03


def test_what_is_spare_is_begun_for_the_slow_alone() -> None:
    constant = found("balanced", "constant", 1, 32, steps=20)
    assert (constant.ratio, constant.old) == (pytest.approx(1.01), 0.0)
    assert found("paper", "long_tailed", 1, 32, steps=20).old <= 0.35


def test_responses_that_have_not_ended_keep_their_places_busy() -> None:
    """Of each step all places are busy, but for the hundredth that the hand-over takes."""
    of = found("balanced", "constant", 1, 32, steps=20)
    assert (of.places_idle, of.learner_idle) == (pytest.approx(0.01, abs=1e-3), pytest.approx(0.01, abs=1e-3))


def test_long_tails_that_hold_up_rollouts_leave_the_short_without_weight() -> None:
    """A standing pool is as fast as its places let it be, and what it costs is told by length."""
    of = found("paper", "long_tailed", 1, 32, steps=20)
    shortest, *_, longest = of.uncounted(4)
    assert shortest > 2 * longest
    assert of.groups_old == 0
    assert of.least_ratio > 1.2 > of.ratio
    assert of.learner_idle > 0.5
    assert of.places_idle > 0.2
    assert found("paper", "long_tailed", 2, 32, steps=20).least_ratio == pytest.approx(1, abs=0.02)


def test_old_tokens_are_those_before_the_version_that_counts() -> None:
    engine = Engine(np.zeros((1, 2)), 2, versions=[(10.0, 1), (20.0, 2)])
    group = Sampled(0, [(4.0, 24.0), (12.0, 18.0)])
    assert engine.too_old(group, step=1, bound=1).tolist() == [0, 0]  # the first version counts
    assert engine.too_old(group, step=2, bound=1).tolist() == [6, 0]
    assert engine.too_old(group, step=3, bound=1).tolist() == [16, 6]


def test_shares_are_of_tokens_and_not_of_groups() -> None:
    """A long group of which nothing counts, beside short ones; and two responses of one length."""
    asked = np.array([[90.0, 30.0], [10.0, 10.0], [20.0, 40.0]])
    old = np.array([[90.0, 30.0], [0.0, 0.0], [20.0, 0.0]])
    of = Found(1.0, 1.0, 0.0, 0.0, asked, asked, old)
    assert of.old == pytest.approx(140 / 200)
    assert of.groups_old == pytest.approx(1 / 3)
    assert of.uncounted(2) == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert math.isnan(Found(1.0, 1.0, 0.0, 0.0, *3 * [np.ones((2, 2))]).uncounted(4)[-1])


def test_what_is_measured_is_shown() -> None:
    command = typer.Typer()
    command.command()(main)
    arguments = ["--jump", "--by-length", "--split", "paper", "--latency", "constant", "--bounds", "0"]
    shown = CliRunner().invoke(command, [*arguments, "--groups", "2", "--steps", "2", "--warm-up", "1"])
    assert shown.exit_code == 0
    assert "nothing counts, by tenths of the responses" in shown.output
    assert "1.132" in shown.output


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
