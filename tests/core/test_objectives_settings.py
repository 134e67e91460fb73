"""Aggregations, and the way from a recipe's settings to an objective."""

from collections.abc import Callable

import numpy as np
import pytest

from rlad_core.config import objectives as config
from rlad_core.objectives import (
    GRPO,
    KDRL,
    OPD,
    SFT,
    TRRD,
    Objective,
    ObjectiveConfig,
    aggregation_weights,
    build,
)


def test_aggregations_by_hand() -> None:
    np.testing.assert_allclose(aggregation_weights([1, 3], "sequence_mean"), [1 / 2, 1 / 6])
    np.testing.assert_allclose(aggregation_weights([1, 3], "token_mean"), [1 / 4, 1 / 4])
    np.testing.assert_allclose(aggregation_weights([1, 3], "fixed_length", 10), [1 / 20, 1 / 20])
    np.testing.assert_allclose(SFT().token_weights([1, 3]), [1 / 4, 1 / 4])
    np.testing.assert_allclose(TRRD().token_weights([1, 3]), [1 / 2, 1 / 6])


def test_aggregation_errors() -> None:
    with pytest.raises(ValueError, match="response 1 has no tokens"):
        aggregation_weights([2, 0], "token_mean")
    with pytest.raises(ValueError, match="at least one response"):
        aggregation_weights([], "token_mean")
    with pytest.raises(ValueError, match="fixed_length goes with"):
        aggregation_weights([2], "fixed_length")
    with pytest.raises(ValueError, match="fixed_length goes with"):
        aggregation_weights([2], "token_mean", 5)
    with pytest.raises(ValueError, match="use sequence_mean, token_mean or fixed_length"):
        aggregation_weights([2], "median")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (TRRD, {"alpha": 1.5}, "alpha is 1.5"),
        (TRRD, {"teacher_clamp": 0.0}, "teacher_clamp is 0.0"),
        (GRPO, {"eps_low": 1.0}, "eps_low is 1.0"),
        (GRPO, {"eps_high": 0.0}, "eps_high is 0.0"),
        (GRPO, {"mismatch_cap": 0.0}, "mismatch_cap is 0.0"),
        (KDRL, {"beta_decay": 1e-5}, "say where the decay stops"),
        (KDRL, {"beta": 1e-3, "beta_end": 1e-2}, "between 0 and beta"),
        (KDRL, {"beta": -1.0}, "neither may be negative"),
    ],
)
def test_impossible_settings_are_refused(
    make: Callable[..., Objective], settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        (config.TRRD, TRRD),
        (config.GRPO, GRPO),
        (config.KDRL, KDRL),
        (config.OPD, OPD),
        (config.SFT, SFT),
    ],
)
def test_a_recipes_defaults_are_the_methods_defaults(
    config: Callable[[], ObjectiveConfig], method: Callable[..., Objective]
) -> None:
    assert build(config()) == method()


def test_build_passes_every_setting_on() -> None:
    assert build(config.TRRD(alpha=0.3, eps_low=0.1, mask_end_token=True, aggregation="token_mean")) == TRRD(
        alpha=0.3, eps_low=0.1, mask_end_token=True, aggregation="token_mean"
    )
    assert build(config.SFT(source="teacher", aggregation="sequence_mean")) == SFT(
        aggregation="sequence_mean"
    )


def test_build_refuses_what_it_does_not_know() -> None:
    class PPO(config.GRPO):
        kind: str = "ppo"  # type: ignore[assignment]

    class Sharper(config.GRPO):
        sharpness: float = 1.0

    with pytest.raises(ValueError, match="use one of trrd, grpo, kdrl, opd, sft"):
        build(PPO())
    with pytest.raises(TypeError, match="sharpness"):
        build(Sharper())
