import numpy as np
import pytest

from rlad_core.advantage import group_relative_advantages


def test_values_by_hand_with_groups_interleaved() -> None:
    result = group_relative_advantages([3.0, -1.0, -3.0, -1.0, 3.0, -1.0], ["a", "b", "a", "b", "a", "b"])
    # Group a: mean 1, population variance (4 + 16 + 4) / 3 = 8; group b: all equal.
    root8 = np.sqrt(8.0)
    np.testing.assert_allclose(result.advantages, [2 / root8, 0, -4 / root8, 0, 2 / root8, 0], rtol=1e-6)
    assert result.informative.tolist() == [True, False, True, False, True, False]
    assert result.advantages.dtype == np.float32


def test_two_responses_get_plus_and_minus_one() -> None:
    # With the sample std (divide by G - 1) this would be 0.707.
    np.testing.assert_allclose(group_relative_advantages([1.0, 0.0], ["g", "g"]).advantages, [1, -1])


@pytest.mark.parametrize("reward", [0.0, 1.0, 3.0, -0.5, -3.0])
def test_equal_rewards_are_uninformative_whatever_their_value(reward: float) -> None:
    result = group_relative_advantages([reward] * 8, ["g"] * 8)
    assert not result.informative.any()
    assert not result.advantages.any()


def test_rounding_does_not_become_an_advantage() -> None:
    result = group_relative_advantages([0.1 + 0.2, 0.3], ["g", "g"])
    assert not result.informative.any()
    assert group_relative_advantages([0.0, 1e-3], ["g", "g"]).informative.all()


def test_mean_zero_and_unit_variance_in_every_group() -> None:
    rng = np.random.default_rng(0)
    groups = rng.permutation(np.repeat(["x", "y", "z"], 8))
    result = group_relative_advantages(rng.normal(5.0, 2.0, 24), groups)
    for name in "xyz":
        members = result.advantages[groups == name]
        assert abs(members.mean()) < 1e-6
        assert members.std() == pytest.approx(1.0, abs=1e-5)


def test_a_lone_response_is_uninformative_and_nothing_gives_nothing() -> None:
    assert group_relative_advantages([1.0], ["g"]).informative.tolist() == [False]
    assert group_relative_advantages([], []).advantages.shape == (0,)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"reward 1 \(group b\) is nan"):
        group_relative_advantages([1.0, float("nan")], ["a", "b"])
    with pytest.raises(ValueError, match="one of each per response"):
        group_relative_advantages([1.0, 2.0], ["a"])


def test_without_the_scale_it_is_the_reward_minus_the_groups_mean() -> None:
    rewards, groups = [3.0, -1.0, 1.0, 0.5, 0.5], ["a", "a", "a", "b", "b"]
    found = group_relative_advantages(rewards, groups, scale=False)
    assert found.advantages.tolist() == [2.0, -2.0, 0.0, 0.0, 0.0]
    assert found.informative.tolist() == [True, True, True, False, False]
