"""Methods over seeds: hand-worked means, what an interval does, and an independent resampling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from rlad_core.evaluation import (
    difference,
    differences,
    estimate,
    estimates,
    holm,
    paired_t_test,
    scores_of,
)


def test_scores_are_shares_of_the_samples_on_shared_problems() -> None:
    one = {"2_people": {"a": [True, False], "b": [True, True], "only here": [True, True]}}
    two = {"2_people": {"b": [False, False], "a": [True, True]}}
    found = scores_of([one, two])
    assert found["2_people"].tolist() == [[0.5, 1.0], [1.0, 0.0]]
    assert scores_of([]) == {}


def test_the_estimate_is_the_mean_over_subsets() -> None:
    scores = {"easy": np.ones((2, 10)), "hard": np.zeros((2, 1000))}
    found = estimate(scores)
    assert (found.value, found.low, found.high) == pytest.approx((0.5, 0.5, 0.5))
    alone = estimate({"one": np.array([[1.0]])})
    assert (alone.value, alone.low, alone.high) == (1.0, None, None)
    with pytest.raises(ValueError, match="no scores"):
        estimate({})


def test_the_interval_is_that_of_drawing_seeds_and_problems_one_by_one() -> None:
    generator = np.random.default_rng(3)
    scores = (generator.random((3, 40)) < 0.6).astype(float)
    drawn = [
        scores[np.ix_(generator.integers(3, size=3), generator.integers(40, size=40))].mean()
        for _ in range(10_000)
    ]
    found = estimate({"all": scores})
    assert found.low == pytest.approx(np.quantile(drawn, 0.025), abs=0.02)
    assert found.high == pytest.approx(np.quantile(drawn, 0.975), abs=0.02)


def test_a_spread_between_seeds_widens_the_interval() -> None:
    same = estimate({"all": np.tile([0.0, 1.0], (4, 100))})
    spread = estimate({"all": np.repeat([[0.1], [0.3], [0.7], [0.9]], 200, axis=1)})
    assert same.high is not None
    assert same.low is not None
    assert spread.high is not None
    assert spread.low is not None
    assert spread.high - spread.low > 2 * (same.high - same.low)


def test_pairing_takes_out_what_is_hard_for_both() -> None:
    generator = np.random.default_rng(0)
    hardness = generator.random((1, 300))
    first = np.repeat(hardness, 3, axis=0)
    second = {"all": first + 0.02}
    found = difference(("a", "b"), {"all": first}, second)
    assert found.difference.value == pytest.approx(0.02)
    assert found.difference.low == pytest.approx(0.02)
    assert found.p_value == pytest.approx(2 / 10_001)
    back = difference(("b", "a"), second, {"all": first})
    assert back.difference.value == pytest.approx(-0.02)
    assert back.p_value == found.p_value


def test_equal_methods_do_not_differ() -> None:
    scores = {"all": (np.random.default_rng(1).random((3, 50)) < 0.5).astype(float)}
    found = difference(("a", "b"), scores, scores)
    assert (found.seeds, found.problems, found.p_value) == (3, 50, 1.0)


def test_ties_count_on_both_sides_whatever_rounding_leaves_of_them() -> None:
    # One problem, so only seeds are drawn, and in half of the draws the two cancel but for rounding.
    first = {"all": np.zeros((2, 1))}
    second = {"all": np.array([[0.1 + 0.2], [-0.3]])}  # whose sum is 5e-17
    found = difference(("a", "b"), first, second)
    back = difference(("b", "a"), second, first)
    assert found.p_value == back.p_value == 1.0  # a quarter on each side, and half are ties


def test_each_seed_s_difference_is_told_and_tested_by_itself() -> None:
    first = {"easy": np.array([[1.0, 0.0], [0.0, 0.0], [0.5, 0.5]]), "hard": np.zeros((3, 1))}
    second = {"easy": np.array([[1.0, 1.0], [1.0, 0.0], [0.5, 1.0]]), "hard": np.array([[0.2], [0.0], [0.1]])}
    found = difference(("a", "b"), first, second)
    assert found.by_seed == pytest.approx((0.35, 0.25, 0.175))
    assert found.difference.value == pytest.approx(np.mean(found.by_seed))
    assert found.t_test == pytest.approx(ttest_1samp(found.by_seed, 0).pvalue)
    alone = difference(("a", "b"), {"all": np.zeros((1, 9))}, {"all": np.ones((1, 9))})
    assert (alone.by_seed, alone.t_test) == ((1.0,), None)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=12).filter(lambda values: np.std(values) > 1e-9))
def test_the_t_test_is_scipy_s(values: list[float]) -> None:
    found = paired_t_test(values)
    assert found == pytest.approx(ttest_1samp(values, 0).pvalue, abs=1e-12)


def test_the_t_test_has_nothing_to_say_without_a_spread() -> None:
    assert paired_t_test([]) is paired_t_test([0.3]) is paired_t_test([0.1 + 0.2, 0.3, 0.3]) is None


def test_with_few_seeds_that_differ_the_bootstrap_finds_too_much_and_the_t_test_does_not() -> None:
    generator = np.random.default_rng(0)
    shifts = generator.normal(0, 0.03, (100, 3, 1))
    zeros = {"all": np.zeros((3, 50))}
    pairs = [(("a", "b"), zeros, {"all": each + generator.normal(0, 0.05, (3, 50))}) for each in shifts]
    found = differences(pairs)
    assert sum(each.p_value is not None and each.p_value < 0.05 for each in found) > 12
    assert sum(each.t_test is not None and each.t_test < 0.05 for each in found) <= 10


def test_what_is_drawn_together_is_what_is_drawn_alone() -> None:
    generator = np.random.default_rng(5)
    shapes = [(3, 40), (2, 40), (3, 40), (1, 1), (3, 41)]
    scores = [{"all": generator.random(shape)} for shape in shapes]
    scores += [{"easy": generator.random((2, 9)), "hard": generator.random((2, 7))} for _ in range(2)]
    assert estimates(scores) == [estimate(each) for each in scores]
    pairs = [(("a", "b"), {k: 0 * v for k, v in each.items()}, each) for each in scores]
    alone = [difference(*pair) for pair in pairs]
    together = differences(pairs)
    assert [each.p_value for each in together] == [each.p_value for each in alone]
    assert [each.difference for each in together] == [each.difference for each in alone]
    told = [each for each in together if each.p_value is not None]
    assert [each.adjusted for each in told] == holm([each.p_value for each in told if each.p_value])


def test_of_many_pairs_one_can_still_be_real() -> None:
    first = {"all": np.zeros((2, 3))}
    same = (("a", "b"), first, first)
    [sure, *_] = differences([(("a", "c"), first, {"all": np.ones((2, 3))}), *[same] * 299])
    assert sure.adjusted is not None
    assert sure.adjusted < 0.05


def test_what_cannot_be_paired_is_refused() -> None:
    scores = {"all": np.zeros((2, 3))}
    with pytest.raises(ValueError, match="a and b share no subset"):
        difference(("a", "b"), scores, {"other": np.zeros((2, 3))})
    with pytest.raises(ValueError, match="only the same can be compared"):
        difference(("a", "b"), scores, {"all": np.zeros((3, 3))})


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.2 times 4, 3, 2, 1; never below the one before.
    assert holm([0.02, 0.2, 0.01, 0.03]) == pytest.approx([0.06, 0.2, 0.04, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_only_raises(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= each <= 1 for p, each in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values)
    assert all(np.diff(np.array(adjusted)[order]) >= 0)
