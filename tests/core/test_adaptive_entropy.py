"""The coefficient of the entropy bonus, step by step by hand."""

import pytest

from rlad_core.adaptive_entropy import EntropyControl
from rlad_core.config.learner_updates import AdaptiveEntropy


def test_it_grows_under_the_target_and_falls_elsewhere() -> None:
    state = EntropyControl(target=0.2, delta=0.1, most=0.25)
    assert state.weight == 0  # nothing is known yet
    weights = []
    for entropy in (0.15, 0.1, 0.19, 0.2, 0.3, 0.1, 0.25, 0.25):
        state = state.after(entropy)
        weights.append((round(state.coefficient, 10), round(state.weight, 10)))
    assert weights == [
        (0.1, 0.1),
        (0.2, 0.2),
        (0.25, 0.25),  # its bound
        (0.15, 0.15),  # at the target it falls, and still counts
        (0.05, 0.0),  # above it counts for nothing
        (0.15, 0.15),
        (0.05, 0.0),
        (0.0, 0.0),
    ]


def test_a_recipes_section_is_its_first_state() -> None:
    assert AdaptiveEntropy(start=1e-3).control == EntropyControl(0.2, 1e-4, 5e-3, coefficient=1e-3)
    assert AdaptiveEntropy().control.after(0.1).weight == pytest.approx(1e-4)
