"""Aggregations, and the way from a recipe's settings to an objective."""

from collections.abc import Callable

import numpy as np
import pytest

from rlad_core.objectives import KINDS, Objective, aggregation_weights
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.sft import SFT
from rlad_core.objectives.top_d import TopD
from rlad_core.objectives.trrd import TRRD


def test_aggregations_by_hand() -> None:
    np.testing.assert_allclose(aggregation_weights([1, 3], "sequence_mean"), [1 / 2, 1 / 6])
    np.testing.assert_allclose(aggregation_weights([1, 3], "token_mean"), [1 / 4, 1 / 4])
    np.testing.assert_allclose(aggregation_weights([1, 3], "fixed_length", 10), [1 / 20, 1 / 20])
    np.testing.assert_allclose(
        aggregation_weights([1, 3, 2], "group_mean", groups=[7, 4, 7]), [1 / 6, 1 / 6, 1 / 6]
    )
    np.testing.assert_allclose(
        aggregation_weights([1, 4, 3], "group_mean", groups=[4, 7, 4]), [1 / 8, 1 / 8, 1 / 8]
    )
    np.testing.assert_allclose(TopD().token_weights([1, 1, 2], [0, 1, 0]), [1 / 6, 1 / 2, 1 / 6])
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
    for groups in (None, [1]):
        with pytest.raises(ValueError, match="group_mean needs the group of each of 2 responses"):
            aggregation_weights([2, 1], "group_mean", groups=groups)
    with pytest.raises(ValueError, match="use sequence_mean, token_mean, group_mean or fixed_length"):
        aggregation_weights([2], "median")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "settings", "message"),
    [
        (TRRD, {"alpha": 1.5}, "alpha"),
        (TRRD, {"teacher_clamp": 0.0}, "teacher_clamp"),
        (GRPO, {"eps_low": 1.0}, "eps_low"),
        (GRPO, {"eps_high": 0.0}, "eps_high"),
        (GRPO, {"mismatch_cap": 0.0}, "mismatch_cap"),
        (KDRL, {"beta": -1.0}, "beta"),
        (KDRL, {"estimator": "k1"}, "estimator"),
        (SFT, {"source": "web"}, "source"),
    ],
)
def test_impossible_settings_are_refused(
    make: Callable[..., Objective], settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**settings)


def test_an_annealed_beta_has_a_floor_below_its_start() -> None:
    def said(**settings: float) -> list[str]:
        return [str(problem) for problem in KDRL(**settings).problems()]  # type: ignore[arg-type]

    assert said(beta=5e-3, beta_decay=5e-5, beta_end=1e-3) == []
    assert "needs a floor" in said(beta_decay=1e-5)[0]
    assert "has no effect" in said(beta_end=1e-3)[0]
    assert "is above beta" in said(beta=1e-3, beta_decay=1e-5, beta_end=1e-2)[0]


def test_every_file_of_the_folder_is_a_method() -> None:
    assert {"trrd": TRRD, "grpo": GRPO, "kdrl": KDRL, "opd": OPD, "sft": SFT}.items() <= KINDS.items()
    assert all(kind == method().kind for kind, method in KINDS.items())
    assert all(method().label == kind for kind, method in KINDS.items())


def test_whose_responses_are_trained_on() -> None:
    assert [SFT(source=source).responses_of for source in ("trace", "teacher")] == ["task", "teacher"]
    assert [SFT(source=source).needs_teacher for source in ("trace", "teacher")] == [False, True]
    assert not SFT(source="teacher").scores_with_teacher
    assert TRRD().scores_with_teacher
    assert not TRRD(alpha=1.0).needs_teacher


def test_a_task_has_one_solution_and_whoever_samples_answers_as_a_group() -> None:
    assert SFT(source="trace").responses_to_a_prompt(8) == 1
    assert SFT(source="teacher").responses_to_a_prompt(8) == GRPO().responses_to_a_prompt(8) == 8
