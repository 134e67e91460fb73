"""Evaluation: intervals against scipy and simulation, Pass@k against its definition."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from rlad_core.evaluation import accuracy_interval, evaluation_rows, mean_at_k, pass_at_k, wilson


class TestIntervals:
    @given(st.integers(1, 3000), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
    @settings(max_examples=100, deadline=None)
    def test_wilson_is_scipys(self, trials: int, share: float, confidence: float) -> None:
        successes = round(share * trials)
        wanted = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
        found = wilson(successes, trials, confidence)
        assert found.low == pytest.approx(wanted.low, abs=1e-12)
        assert found.high == pytest.approx(wanted.high, abs=1e-12)

    def test_one_sample_per_puzzle_is_plain_wilson(self) -> None:
        correct = np.arange(300)[:, None] < 123
        found = accuracy_interval(correct)
        wanted = wilson(123, 300)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)

    def test_copies_of_one_answer_add_nothing(self) -> None:
        once = np.arange(300)[:, None] < 123
        found, wanted = accuracy_interval(np.repeat(once, 8, axis=1)), accuracy_interval(once)
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)

    @pytest.mark.parametrize("right", [True, False])
    def test_where_all_agree_only_puzzles_count(self, right: bool) -> None:
        found, wanted = accuracy_interval(np.full((50, 8), right)), wilson(50 if right else 0, 50)
        assert (found.low, found.high) == (wanted.low, wanted.high)

    @pytest.mark.parametrize("spread", [0.0, 0.5, 8.0])
    def test_it_covers_as_often_as_it_says(self, spread: float) -> None:
        # Puzzles with difficulties of their own: logit-normal, from all alike to all easy or hopeless.
        rng = np.random.default_rng(7)
        truth = float(np.mean(1 / (1 + np.exp(-rng.normal(0.4, spread, 1_000_000)))))
        covered = 0
        for _ in range(400):
            chance = 1 / (1 + np.exp(-rng.normal(0.4, spread, (120, 1))))
            interval = accuracy_interval(rng.random((120, 8)) < chance)
            covered += interval.low <= truth <= interval.high
        assert 0.92 <= covered / 400 <= 0.985

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="no proportion"):
            wilson(1, 0)
        with pytest.raises(ValueError, match="confidence"):
            wilson(1, 2, 95)
        with pytest.raises(ValueError, match="shape"):
            accuracy_interval([True])
        with pytest.raises(ValueError, match="right or wrong"):
            accuracy_interval([[0.5]])


class TestPassAtK:
    @given(st.integers(1, 9), st.data())
    @settings(max_examples=60, deadline=None)
    def test_it_is_the_mean_over_all_choices(self, samples: int, data: st.DataObject) -> None:
        k = data.draw(st.integers(1, samples))
        verdicts = data.draw(st.lists(st.booleans(), min_size=samples, max_size=samples))
        chosen = [any(c) for c in combinations(verdicts, k)]
        assert pass_at_k([verdicts], k) == pytest.approx(np.mean(chosen), abs=1e-12)

    def test_large_numbers_stay_exact(self) -> None:
        verdicts = np.zeros((1, 10_000), dtype=bool)
        verdicts[0, :3] = True
        exact = 1 - comb(9_997, 5_000) / comb(10_000, 5_000)
        assert pass_at_k(verdicts, 5_000) == pytest.approx(exact, rel=1e-10)
        assert pass_at_k(verdicts, 1) == pytest.approx(mean_at_k(verdicts))

    def test_k_is_bounded(self) -> None:
        for k in (0, 3):
            with pytest.raises(ValueError, match=f"Pass@{k}"):
                pass_at_k([[True, False]], k)


class TestTable:
    def test_rows_by_hand_in_any_order(self) -> None:
        rows = [
            ("2_people", "a", True, False),
            ("3_people", "b", False, True),
            ("2_people", "a", False, False),
            ("2_people", "c", True, False),
            ("3_people", "b", False, False),
            ("2_people", "c", True, False),
        ]
        for order in (slice(None), slice(None, None, -1)):
            subsets, prompts, correct, cut = zip(*rows[order], strict=True)
            table = {row.subset: row for row in evaluation_rows(subsets, prompts, correct, cut)}
            assert list(table) == [*dict.fromkeys(subsets), "all"]
            two, three, both = table["2_people"], table["3_people"], table["all"]
            assert (two.prompts, two.samples, two.accuracy, two.pass_at_k, two.k) == (2, 2, 0.75, 1.0, 2)
            assert (three.prompts, three.accuracy, three.pass_at_k, three.truncated) == (1, 0.0, 0.0, 1)
            assert (both.prompts, both.accuracy, both.truncated) == (3, 0.5, 1)
            assert two.interval.low < 0.75 < two.interval.high
        single = evaluation_rows(["x"] * 2, ["a", "a"], [True, False], [False] * 2, k=1)
        assert [(row.subset, row.pass_at_k, row.k) for row in single] == [("x", 0.5, 1)]

    def test_a_missing_response_is_named(self) -> None:
        with pytest.raises(ValueError, match="subset 'x': prompt 'b' has 1 responses where others have 2"):
            evaluation_rows(["x"] * 3, ["a", "a", "b"], [True] * 3, [False] * 3)
        with pytest.raises(ValueError, match="one entry per response"):
            evaluation_rows(["x"], ["a"], [True, False], [False])
        with pytest.raises(ValueError, match="one entry per response"):
            evaluation_rows([], [], [], [])
        with pytest.raises(ValueError, match="Pass@0"):
            evaluation_rows(["x"], ["a"], [True], [False], k=0)
