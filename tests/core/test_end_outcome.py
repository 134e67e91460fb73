"""End tokens of policy and teacher as one outcome, against values worked out by hand."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from rlad_core.objectives import Objective, TokenBatch
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.opd import OPD
from rlad_core.objectives.sdar import SDAR
from rlad_core.objectives.trrd import TRRD
from rlad_core.packing import pack

LN = math.log


def tokens(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def ended(**changes: Any) -> TokenBatch:
    """One response of two tokens. The policy gives its end token 0.4 and the teacher's 0.1; before it was 0.2
    and 0.2; the teacher gives them 0.01 and 0.79.
    """
    given: dict[str, Any] = {
        "policy_logprobs": tokens(LN(0.5), LN(0.4)).requires_grad_(),
        "old_logprobs": tokens(LN(0.5), LN(0.2)),
        "rollout_logprobs": tokens(LN(0.5), LN(0.2)),
        "teacher_logprobs": tokens(LN(0.5), LN(0.01)),
        "teacher_end_logprobs": tokens(-30, LN(0.8)),
        "policy_end_logprobs": tokens(0, LN(0.5)).requires_grad_(),
        "old_end_logprobs": tokens(0, LN(0.4)),
        "is_end": torch.tensor([False, True]),
        "advantages": tokens(-1, -1),
        "weights": tokens(1, 1),
    }
    return TokenBatch(**(given | changes))


def test_trrd_compares_the_outcome_and_keeps_the_token_in_grpos_ratio() -> None:
    # rho = (0.4 / 0.2)^0.5 * (0.5 / 0.8)^0.5 = 1.25^0.5, and 1 on the token before; A = -1.
    batch = ended()
    output = TRRD()(batch, 0)
    assert output.loss.item() == pytest.approx(1 + math.sqrt(1.25))
    own, outcome = torch.autograd.grad(output.loss, [batch.policy_logprobs, batch.policy_end_logprobs])
    # d rho = rho * (alpha * d log pi(token) + (1 - alpha) * d log pi(E)).
    assert own.tolist() == pytest.approx([1, math.sqrt(1.25) / 2])
    assert outcome.tolist() == pytest.approx([0, math.sqrt(1.25) / 2])
    assert output.statistics["kl_to_teacher"].mean == pytest.approx(LN(0.5 / 0.8) / 2)


def test_kdrl_opd_and_sdar_compare_the_outcome() -> None:
    # k2 = 0.5 * log(0.8 / 0.5)^2 at the end and 0 before; GRPO's ratios are 1 and 2.
    assert KDRL(beta=0.1)(ended(), 0).loss.item() == pytest.approx(1 + 2 + 0.1 * 0.5 * LN(1.6) ** 2)
    # A = log 0.8 - log 0.4 at the end, 0 before; its ratio of 2 is clipped to 1.28.
    assert OPD()(ended(), 0).loss.item() == pytest.approx(-1.28 * LN(2))
    gate = 1 / (1 + math.exp(-5 * LN(1.6)))
    assert SDAR()(ended(), 0).loss.item() == pytest.approx(1 + 2 + 0.01 * gate * LN(1.6))


@pytest.mark.parametrize("make", [TRRD, KDRL, OPD, SDAR])
def test_one_end_token_is_the_token_itself(make: Callable[..., Objective]) -> None:
    single = ended(
        teacher_end_logprobs=tokens(-30, LN(0.01)),
        policy_end_logprobs=tokens(0, LN(0.4)),
        old_end_logprobs=tokens(0, LN(0.2)),
    )
    plain = ended(teacher_end_logprobs=None, policy_end_logprobs=None, old_end_logprobs=None)
    assert make()(single, 0).loss.item() == make()(plain, 0).loss.item()


def test_a_response_that_was_cut_off_keeps_its_last_token() -> None:
    cut = ended(is_end=torch.tensor([False, False]))
    term = TRRD().teacher_term(cut)
    assert torch.equal(term.teacher, cut.teacher_logprobs)
    assert torch.equal(term.policy, cut.policy_logprobs)
    masked = TRRD(mask_end_token=True).teacher_term(cut)
    assert masked.counts.tolist() == [True, True]
    assert TRRD(mask_end_token=True).teacher_term(ended()).counts.tolist() == [True, False]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match=r"trrd has .* needs the policy's: TokenBatch.policy_end_logprobs"):
        TRRD()(ended(policy_end_logprobs=None), 0)
    with pytest.raises(ValueError, match=r"needs TokenBatch\.is_end"):
        TRRD()(ended(is_end=None), 0)


def test_a_packed_batch_asks_for_other_tokens_too() -> None:
    packed = pack([([1, 2], [10, 11]), ([3], [20])])
    more = packed.with_alternatives(torch.tensor([1, 2]).numpy(), (8, 9))
    assert more.response_ids.tolist() == [10, 11, 20, 8, 9, 8, 9]
    assert more.response_index.tolist() == [1, 2, 4, 2, 2, 4, 4]
    assert more.is_last.tolist() == packed.is_last.tolist()
