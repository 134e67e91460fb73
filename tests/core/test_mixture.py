"""Several teachers' scores as those of one, against values worked out by hand and in float64."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlad_core import schema
from rlad_core.config.teachers import Manner
from rlad_core.mixture import mixed, mixed_logprobs

BOTH: tuple[Manner, Manner] = ("probabilities", "logprobs")


def scores(*logprobs: list[float], ends: bool = False, fingerprint: str = "tokens") -> pa.Table:
    columns = {
        "sequence_id": [f"p/{row}" for row in range(len(logprobs))],
        "teacher_logprobs": [np.float32(row) for row in logprobs],
    }
    if ends:
        columns["teacher_end_logprobs"] = columns["teacher_logprobs"]
    return schema.build(schema.TEACHER_SCORES, columns, tokenizer_fingerprint=fingerprint)


def test_the_mean_of_probabilities_by_hand() -> None:
    # (3 * 0.5 + 1 * 0.1) / 4 = 0.4
    found = mixed([scores([math.log(0.5)]), scores([math.log(0.1)])], [3, 1], "probabilities")
    assert found.column("teacher_logprobs").to_pylist()[0] == pytest.approx([math.log(0.4)], abs=1e-7)


def test_the_mean_of_logprobs_by_hand() -> None:
    # (3 * -2 + 1 * -6) / 4 = -3
    found = mixed([scores([-2.0]), scores([-6.0])], [3, 1], "logprobs")
    assert found.column("teacher_logprobs").to_pylist() == [[-3.0]]


def test_rows_keep_their_lengths_ids_and_tokenizer() -> None:
    one, other = scores([-1.0, -2.0], [-3.0]), scores([-2.0, -1.0], [-4.0])
    found = mixed([one, other], [1, 1], "logprobs")
    assert found.column("teacher_logprobs").to_pylist() == [[-1.5, -1.5], [-3.5]]
    assert found.column("sequence_id").to_pylist() == ["p/0", "p/1"]
    assert schema.fingerprint_of(found) == "tokens"


@pytest.mark.parametrize("manner", BOTH)
def test_end_tokens_are_told_where_all_teachers_tell_them(manner: Manner) -> None:
    told = mixed([scores([-1.0], ends=True), scores([-1.0], ends=True)], [1, 2], manner)
    assert told.column("teacher_end_logprobs").to_pylist()[0] == pytest.approx([-1.0])
    untold = mixed([scores([-1.0], ends=True), scores([-1.0])], [1, 2], manner)
    assert untold.column("teacher_end_logprobs").null_count == 1


def test_named_tokens_are_mixed_too() -> None:
    def named(*probabilities: float) -> pa.Table:
        return schema.build(
            schema.TEACHER_DETAILS,
            {
                "sequence_id": ["p/0"],
                "teacher_logprobs": [np.float32([-1.0])],
                "named_logprobs": [np.log(np.float32(probabilities))],
            },
            tokenizer_fingerprint="tokens",
        )

    found = mixed([named(0.5, 0.2), named(0.1, 0.6)], [1, 1], "probabilities")
    assert found.column("named_logprobs").to_pylist()[0] == pytest.approx(np.log([0.3, 0.4]), abs=1e-6)
    schema.validate(found, schema.TEACHER_DETAILS)


@given(
    st.integers(2, 4).flatmap(
        lambda teachers: st.tuples(
            st.lists(
                st.lists(st.floats(-30, 0), min_size=6, max_size=6), min_size=teachers, max_size=teachers
            ),
            st.lists(st.floats(0.01, 10), min_size=teachers, max_size=teachers),
        )
    )
)
def test_it_is_the_logarithm_of_the_mean_in_float64_and_never_below_the_mean_of_logarithms(
    drawn: tuple[list[list[float]], list[float]],
) -> None:
    logprobs, weights = drawn
    shares = np.array(weights) / sum(weights)
    probabilities = mixed_logprobs(logprobs, weights, "probabilities")
    np.testing.assert_allclose(probabilities, np.log(shares @ np.exp(np.array(logprobs))), atol=1e-12)
    geometric = mixed_logprobs(logprobs, weights, "logprobs")
    np.testing.assert_allclose(geometric, np.minimum(shares @ np.array(logprobs), 0), atol=1e-12)
    assert (probabilities >= geometric - 1e-12).all()
    assert (probabilities <= np.max(logprobs, axis=0) + 1e-12).all()


@pytest.mark.parametrize(("manner", "whole"), [("probabilities", True), ("logprobs", False)])
def test_only_the_mean_of_probabilities_is_a_distribution(manner: Manner, whole: bool) -> None:
    one, other = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.3, 0.6])
    total = np.exp(mixed_logprobs([one, other], [1, 1], manner)).sum()
    assert (abs(total - 1) < 1e-12) == whole
    assert total <= 1 + 1e-12


def test_scores_of_others_are_refused() -> None:
    with pytest.raises(schema.SchemaError, match="different sequences"):
        mixed([scores([-1.0]), scores([-1.0], [-2.0])], [1, 1], "logprobs")
    with pytest.raises(schema.SchemaError, match="other tokenizers"):
        mixed([scores([-1.0]), scores([-1.0], fingerprint="others")], [1, 1], "logprobs")
