"""Evaluation: intervals and tests against scipy and simulation, Pass@k against its definition."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap

from rlad_core.evaluation import (
    Interval,
    accuracy_interval,
    evaluation_rows,
    fault_of,
    mcnemar,
    mean_at_k,
    mean_interval,
    paired_rows,
    pass_at_k,
    share_interval,
    wilson,
)


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

    @pytest.mark.parametrize(("values", "samples"), [([], 8), ([[0.5]], 8), ([0.5, 1.5], 8), ([0.5], 0)])
    def test_what_is_no_share_has_no_interval(self, values: list[float], samples: int) -> None:
        with pytest.raises(ValueError, match=r"wanted a share in 0\.\.1"):
            share_interval(values, samples)


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
            assert list(table) == [*dict.fromkeys(subsets), "average", "all"]
            two, three, both = table["2_people"], table["3_people"], table["all"]
            assert (two.prompts, two.samples, two.accuracy, two.pass_at_k, two.k) == (2, 2, 0.75, 1.0, 2)
            assert (three.prompts, three.accuracy, three.pass_at_k, three.truncated) == (1, 0.0, 0.0, 1)
            assert (both.prompts, both.accuracy, both.truncated) == (3, 0.5, 1)
            assert two.interval.low < 0.75 < two.interval.high
        single = evaluation_rows(["x"] * 2, ["a", "a"], [True, False], [False] * 2, ks=[1])
        assert [(row.subset, row.pass_at_k, row.k) for row in single] == [("x", 0.5, 1)]

    def test_a_missing_response_is_named(self) -> None:
        with pytest.raises(ValueError, match="subset 'x': prompt 'b' has 1 responses where others have 2"):
            evaluation_rows(["x"] * 3, ["a", "a", "b"], [True] * 3, [False] * 3)
        with pytest.raises(ValueError, match="one entry per response"):
            evaluation_rows(["x"], ["a"], [True, False], [False])
        with pytest.raises(ValueError, match="one entry per response"):
            evaluation_rows([], [], [], [])
        with pytest.raises(ValueError, match="Pass@0"):
            evaluation_rows(["x"], ["a"], [True], [False], ks=[0])

    def test_average_is_over_subsets_and_all_over_problems(self) -> None:
        # 4 problems of "easy", one of them in "hard" too: it counts in both, and once in "all".
        subsets = ["easy"] * 4 + ["hard"] * 2
        prompts = ["a", "b", "c", "d", "d", "e"]
        right = [True, True, True, False, False, True]
        cut, formless = [False] * 5 + [True], [False, False, False, True, True, False]
        easy, hard, average, whole = evaluation_rows(subsets, prompts, right, cut, unreadable=formless)
        assert (easy.accuracy, hard.accuracy, average.accuracy) == (0.75, 0.5, 0.625)
        assert (average.subset, whole.subset, whole.prompts, whole.accuracy) == ("average", "all", 5, 0.8)
        assert (easy.cut_off, hard.cut_off, average.cut_off, whole.cut_off) == (0, 0.5, 0.25, 0.2)
        assert (easy.format_errors, hard.format_errors, average.format_errors) == (0.25, 0.5, 0.375)
        wanted = mean_interval([0.75, 0.5], [wilson(3, 4), wilson(1, 2)])
        assert average.interval == wanted == average.pass_at[1].interval
        assert {row.reward for row in (easy, hard, average, whole)} == {None}
        told = evaluation_rows(subsets, prompts, right, cut, rewards=[1.0, 1.0, 1.0, -1.0, -1.0, 0.0])
        assert [row.reward for row in told] == [0.5, -0.5, 0.0, 0.4]
        with pytest.raises(ValueError, match="1 rewards"):
            evaluation_rows(subsets, prompts, right, cut, rewards=[1.0])

    def test_the_same_problem_in_two_subsets_with_several_samples(self) -> None:
        rows = evaluation_rows(["x", "y"] * 3, ["a"] * 6, [True, True, False, False, True, True], [False] * 6)
        assert [(row.subset, row.prompts, row.samples) for row in rows] == [
            ("x", 1, 3), ("y", 1, 3), ("average", 1, 3), ("all", 1, 3)
        ]  # fmt: skip
        assert {row.accuracy for row in rows} == {2 / 3}

    def test_several_k(self) -> None:
        verdicts = np.zeros((2, 8), dtype=bool)
        verdicts[0, :2] = True
        prompts = np.repeat(["a", "b"], 8)
        [row] = evaluation_rows(["x"] * 16, prompts.tolist(), verdicts.ravel(), [False] * 16)
        assert list(row.pass_at) == [2, 4, 8]
        assert row.pass_at[4].value == pytest.approx((1 - comb(6, 4) / comb(8, 4)) / 2)
        assert (row.k, row.pass_at_k) == (8, 0.5)
        [row] = evaluation_rows(["x"] * 16, prompts.tolist(), verdicts.ravel(), [False] * 16, ks=[3, 1])
        assert list(row.pass_at) == [1, 3]
        assert row.pass_at[1].value == row.accuracy


class TestIntervalsOfMeans:
    def test_one_subset_keeps_its_interval(self) -> None:
        one = wilson(12, 40)
        assert mean_interval([0.3], [one]) == one

    def test_by_hand(self) -> None:
        found = mean_interval([0.5, 1.0], [Interval(0.2, 0.8), Interval(0.6, 1.0)])
        assert (found.low, found.high) == pytest.approx((0.75 - 0.25, 0.75 + 0.15))

    @pytest.mark.parametrize("k", [1, 2, 4])
    def test_pass_at_k_and_its_average_cover_as_often_as_they_say(self, k: int) -> None:
        rng = np.random.default_rng(3)
        spreads, count = (0.5, 2.0), 100
        truths = [
            float(np.mean(1 - (1 - 1 / (1 + np.exp(-rng.normal(-1, spread, 400_000)))) ** k))
            for spread in spreads
        ]
        covered = np.zeros(3)
        for _ in range(300):
            chances = [1 / (1 + np.exp(-rng.normal(-1, spread, (count, 1)))) for spread in spreads]
            right = np.concatenate([rng.random((count, 8)) < chance for chance in chances])
            subsets = np.repeat(["x", "y"], count * 8).tolist()
            prompts = np.repeat([f"{place}" for place in range(2 * count)], 8).tolist()
            rows = evaluation_rows(subsets, prompts, right.ravel(), np.zeros(right.size, dtype=bool), ks=[k])
            for place, truth in enumerate((*truths, sum(truths) / 2)):
                interval = rows[place].pass_at[k].interval
                covered[place] += interval.low <= truth <= interval.high
        assert (covered / 300 >= 0.91).all()
        assert (covered / 300 <= 0.99).all()


class TestPairs:
    @given(st.integers(0, 400), st.integers(0, 400))
    @settings(max_examples=100, deadline=None)
    def test_mcnemar_is_scipys_exact_binomial(self, gained: int, lost: int) -> None:
        wanted = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
        assert mcnemar(gained, lost) == pytest.approx(wanted, rel=1e-9)

    def test_by_hand(self) -> None:
        first = {"x": {"a": [True], "b": [False], "c": [False], "only": [True]}, "y": {"d": [True]}}
        second = {"x": {"a": [True], "b": [True], "c": [True]}, "y": {"d": [False]}}
        x, y, average, whole = paired_rows(first, second)
        assert (x.problems, x.gained, x.lost, x.p_value) == (3, 2, 0, 0.5)
        assert x.difference == pytest.approx(2 / 3)
        assert (y.difference, y.low, y.high, y.p_value) == (-1, None, None, 1.0)
        assert average.difference == pytest.approx((2 / 3 - 1) / 2)
        assert (whole.problems, whole.difference, whole.gained, whole.lost) == (4, 0.25, 2, 1)
        with pytest.raises(ValueError, match="no problem in common"):
            paired_rows({"x": {"a": [True]}}, {"x": {"b": [True]}})

    def test_the_interval_is_scipys_bootstrap(self) -> None:
        rng = np.random.default_rng(5)
        first, second = rng.random((60, 4)) < 0.4, rng.random((60, 4)) < 0.55
        names = [str(place) for place in range(60)]
        [row] = paired_rows(
            {"x": dict(zip(names, first.tolist(), strict=True))},
            {"x": dict(zip(names, second.tolist(), strict=True))},
        )
        values = second.mean(axis=1) - first.mean(axis=1)
        wanted = bootstrap(
            (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
        ).confidence_interval
        assert row.difference == pytest.approx(values.mean())
        assert (row.low, row.high) == pytest.approx((wanted.low, wanted.high), abs=0.006)
        assert (row.gained, row.p_value) == (None, None)

    def test_what_is_hard_for_both_cancels(self) -> None:
        difficulty = np.arange(100) < 50
        verdicts = {str(place): [bool(hard)] for place, hard in enumerate(difficulty)}
        [row] = paired_rows({"x": verdicts}, {"x": verdicts})
        assert (row.difference, row.low, row.high, row.p_value) == (0, 0, 0, 1)


@pytest.mark.parametrize(
    ("reason", "finish", "fault"),
    [
        ("no answer: nothing in \\boxed{}", "stop", "no answer"),
        ("no answer: the last box is not closed", "length", "cut off"),
        ("form: <think> is missing", "stop", "format"),
        ("unreadable answer '1 2': numbers side by side", "stop", "unreadable"),
        ("several different answers: '1' and '2'", "stop", "wrong answer"),
        ("wrong answer: '4' is not '5'", "stop", "wrong answer"),
        ("the check took longer than 5 s and was stopped; counts as wrong", "stop", "timed out"),
        ("mine to say", "stop", "other"),
    ],
)
def test_why_a_response_is_wrong(reason: str, finish: str, fault: str) -> None:
    assert fault_of(reason, correct=False, finish_reason=finish) == fault
    assert fault_of(reason, correct=True, finish_reason=finish) == ""
