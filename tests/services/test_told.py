"""What a foreign server tells is looked at before it is used."""

import numpy as np
import pytest

from rlad_core.client.errors import ServiceError
from services.clients.teachers.told import logprobs_told
from services.learner.step_metrics import mismatch_told


def test_log_probs_are_taken() -> None:
    told = logprobs_told([-0.5, 0, 1e-6, -80.25], "s", "http://host")
    assert told.dtype == np.float32
    np.testing.assert_array_equal(told, np.float32([-0.5, 0, 1e-6, -80.25]))


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (-9999.0, r"says -9999.0 of token 1 .* stand-in for minus infinity"),
        (float("nan"), "says nan of token 1"),
        (float("-inf"), "says -inf of token 1"),
        (0.25, "says 0.25 of token 1 .* at most 0"),
        (None, "says None of token 1"),
        ("-1.5", "says '-1.5' of token 1"),
        (True, "says True of token 1"),
    ],
)
def test_what_is_none_is_refused_with_its_place(value: object, says: str) -> None:
    with pytest.raises(ServiceError, match=f"http://host:1 {says}") as failed:
        logprobs_told([-1.0, value, -2.0], "group/3", "http://host:1")
    assert "sequence 'group/3'" in str(failed.value)


def test_engine_and_learner_that_differ_are_told() -> None:
    assert mismatch_told({"mismatch": 2e-5}, "float32") is None
    assert mismatch_told({}, "float32") is None
    assert mismatch_told({"mismatch": 0.02}, "bfloat16") is None
    said = mismatch_told({"mismatch": 3.98}, "bfloat16")
    assert said is not None
    assert "differ by 3.98 nats" in said
