"""ExOPD: the teacher's gain over a reference extrapolated, by hand."""

import math

import pytest
import torch
from example_recipe import the_problem
from token_batches import batch, gradient, tokens

from rlad_core.objectives import KINDS
from rlad_core.objectives.exopd import ExOPD
from rlad_core.objectives.opd import OPD

LN = math.log


def test_the_gain_over_the_reference_is_taken_further() -> None:
    # pi_old = 1/4, pi_T = 1/2, pi_ref = 1/8: d = ln 2 and the gain is ln 4; a quarter of it comes on top.
    given = batch(tokens(LN(0.25)), teacher_logprobs=tokens(LN(0.5)), reference_logprobs=tokens(LN(0.125)))
    output = ExOPD()(given, 0)
    wanted = LN(2) + 0.25 * LN(4)
    assert output.loss.item() == pytest.approx(-wanted)
    assert gradient(ExOPD(), given) == pytest.approx([-wanted])
    assert output.statistics["extrapolation"].mean == pytest.approx(0.25 * LN(4))
    assert output.statistics["token_advantage"].mean == pytest.approx(wanted)
    # With l = 0 the policy is held at the reference: log pi_ref - log pi_old.
    assert ExOPD(factor=0)(given, 0).loss.item() == pytest.approx(LN(2))


def test_factor_1_is_opd_and_asks_no_reference() -> None:
    given = batch(tokens(-1.5, -0.5), teacher_logprobs=tokens(-0.25, -2))
    assert not ExOPD(factor=1).needs_reference
    assert ExOPD(factor=1)(given, 0).loss.item() == OPD()(given, 0).loss.item()
    assert ExOPD(factor=1, reference_kl=0.1).needs_reference


def test_an_end_token_that_is_one_outcome_is_not_extrapolated() -> None:
    given = batch(
        tokens(-1, -2),
        teacher_logprobs=tokens(-0.5, -9),
        reference_logprobs=tokens(-1.5, -3),
        is_end=torch.tensor([False, True]),
        teacher_end_logprobs=tokens(-7, -1),
        policy_end_logprobs=tokens(0, -1.5),
        old_end_logprobs=tokens(0, -1.5),
    )
    # 0.5 + (-0.5 + 1.5) / 4, and -1 + 1.5.
    assert ExOPD()(given, 0).loss.item() == pytest.approx(-(0.5 + 0.25 + 0.5))


def test_a_reference_is_needed() -> None:
    with pytest.raises(ValueError, match=r"exopd needs the log-probs of teacher and reference"):
        ExOPD()(batch(tokens(-1), teacher_logprobs=tokens(-1)), 0)
    assert "or is exopd. Write reference: {kind: serve" in the_problem("stages.0.objective={kind: exopd}")
    assert KINDS["exopd"] is ExOPD
