"""What a foreign server tells is looked at before it is used."""

import numpy as np
import pytest

from rlad_core.client.errors import ServiceError
from services.clients.teachers.told import likeliest_told, logprobs_told
from services.learner.step_metrics import empty_told, mismatch_told


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


def test_mini_batches_that_taught_nothing_are_told() -> None:
    assert empty_told(4, {"loss": 0.5}) is None
    said = empty_told(4, {"empty_mini_batches": 1.0})
    assert said is not None
    assert said.startswith("step 5: a mini-batch has no token that counts")
    assert "2 mini-batches have" in str(empty_told(4, {"empty_mini_batches": 2.0}))


def entry(rank: int, logprob: float) -> dict[str, float]:
    return {"rank": rank, "logprob": logprob, "decoded_token": ""}


def test_likely_tokens_come_in_the_order_of_their_ranks_without_what_is_no_token() -> None:
    places = [
        {"5": entry(9, -4.0), "3": entry(2, -1.5), "7": entry(1, -0.5), "2": entry(3, -2.0)},
        {"200": entry(2, -1.0), "7": entry(3, -1.5), "3": entry(1, -0.25)},
    ]
    told = likeliest_told(places, 2, tokens=None, sequence_id="s", server="http://host")
    assert told["top_token_ids"].tolist() == [[7, 3], [3, 200]]
    assert told["top_logprobs"].tolist() == [[-0.5, -1.5], [-0.25, -1.0]]
    with pytest.raises(
        ServiceError, match=r"told 1 of the 2 likeliest tokens at token 1 .* no tokens do not"
    ):
        likeliest_told(places, 2, tokens=100, sequence_id="s", server="http://host")
    with pytest.raises(ServiceError, match="did not tell the rank"):
        likeliest_told([{"5": {"logprob": -1.0}}], 1, tokens=None, sequence_id="s", server="http://host")
