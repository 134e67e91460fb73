"""TRRD with the anchor that is a distribution: by hand, with end tokens as one outcome, and its settings."""

import math
from typing import Any

import pytest
import torch
from token_batches import batch, gradient, tokens

from rlad_core.objectives import ClippedSurrogate, TokenBatch
from rlad_core.objectives.grpo import GRPO
from rlad_core.objectives.kdrl import KDRL
from rlad_core.objectives.trrd import TRRD

LN = math.log
RAMP: dict[str, Any] = {"kind": "trrd", "alpha": 0.5, "alpha_end": 1.0, "alpha_steps": 10}

# One place: pi_old = (0.8, 0.1, 0.1), pi_T = (0.2, 0.4, 0.4), so that Z = 0.4 + 2 * 0.2 = 0.8 at alpha = 0.5.
OLD, TEACHER = tokens(0.8, 0.1, 0.1).log(), tokens(0.2, 0.4, 0.4).log()


def place(sampled: int, ids: list[int], **changes: Any) -> TokenBatch:
    """The place with one token sampled and these told apart; pi_theta = pi_old."""
    others = OLD[[token for token in range(3) if token not in ids]]
    return batch(
        OLD[[sampled]],
        teacher_logprobs=TEACHER[[sampled]],
        top_token_ids=torch.tensor([ids]),
        top_logprobs=TEACHER[ids][None],
        policy_top_logprobs=OLD[ids][None].clone().requires_grad_(),
        policy_rest_logprobs=others.logsumexp(0)[None],
        **changes,
    )


def test_the_ratio_has_z_in_it_and_no_gradient_of_z() -> None:
    objective = TRRD(anchor="normalised", top_k=2)
    given = place(0, [1, 2])
    # The rest is token 0 alone, so Z_k = Z. The plain ratio is sqrt(0.8 / 0.2) = 2; with Z 1.6, above 1.28.
    output = objective(given, 0)
    assert output.statistics["ratio"].mean == pytest.approx(1.6)
    assert output.statistics["anchor_log_z"].mean == pytest.approx(LN(0.8))
    assert gradient(objective, given) == [0.0]
    # pi_old / anchor = 0.1 / (0.2 / 0.8), below 0.8: with A > 0 it is not clipped.
    given = place(1, [1, 2])
    assert objective(given, 0).loss.item() == pytest.approx(-0.4)
    assert gradient(objective, given) == pytest.approx([-0.4])
    told = given.policy_top_logprobs
    assert told is not None
    [of_top] = torch.autograd.grad(objective(given, 0).loss, told, allow_unused=True)
    assert of_top is None


def test_fewer_tokens_give_a_larger_z() -> None:
    # Token 1 alone: sqrt(0.1 * 0.4) + sqrt(0.9 * 0.6).
    z = 0.2 + math.sqrt(0.54)
    output = TRRD(anchor="normalised", top_k=1)(place(1, [1]), 0)
    assert output.statistics["anchor_log_z"].mean == pytest.approx(LN(z))
    assert output.loss.item() == pytest.approx(-0.5 * z)


def test_a_z_that_the_learner_kept_is_taken() -> None:
    given = place(1, [1, 2], log_z=tokens(LN(0.5)))
    assert TRRD(anchor="normalised")(given, 0).loss.item() == pytest.approx(-0.5 * 0.5)


def test_end_tokens_that_are_one_outcome_are_one_in_z() -> None:
    # The policy ends with token 1 (0.7) and the teacher with token 2 (0.7), both with 0.8 in all: as tokens
    # they share little, as outcomes they agree and Z is 1.
    old, teacher = tokens(0.2, 0.7, 0.1).log(), tokens(0.2, 0.1, 0.7).log()
    ended = batch(
        old[[1]],
        teacher_logprobs=teacher[[1]],
        is_end=torch.tensor([True]),
        policy_end_logprobs=tokens(LN(0.8)),
        old_end_logprobs=tokens(LN(0.8)),
        teacher_end_logprobs=tokens(LN(0.8)),
        top_token_ids=torch.tensor([[2, 0]]),
        top_logprobs=teacher[[2, 0]][None],
        policy_top_logprobs=old[[2, 0]][None],
        policy_rest_logprobs=tokens(-math.inf),
        top_is_end=torch.tensor([[True, False]]),
    )
    output = TRRD(anchor="normalised")(ended, 0)
    assert output.statistics["anchor_log_z"].mean == pytest.approx(0, abs=1e-12)
    assert output.loss.item() == pytest.approx(-1)


def test_alpha_1_is_grpo_and_asks_nobody() -> None:
    objective = TRRD(anchor="normalised", alpha=1.0)
    assert (objective.teacher_top_k, objective.needs_teacher) == (0, False)
    assert objective(batch(OLD[[0]]), 0).loss.item() == -1


@pytest.mark.parametrize(
    "settings", [{}, {"anchor": "normalised"}, {"anchor": "normalised", "source": "hidden"}]
)
def test_alpha_that_has_come_to_1_is_grpo_to_the_last_bit(settings: dict[str, Any]) -> None:
    """In float32, where log Z of the told tokens is rounding: they and the rest sum to 1 and a little."""
    generator = torch.Generator().manual_seed(0)
    old, teacher = ((3 * torch.randn(200, 50, generator=generator)).log_softmax(1) for _ in range(2))
    top, ids = teacher.topk(8, dim=1)
    advantages = torch.randn(200, generator=generator)

    def found(objective: ClippedSurrogate) -> tuple[float, list[float]]:
        given = TokenBatch(
            policy_logprobs=(old[:, 0] + 0.01).requires_grad_(),
            old_logprobs=old[:, 0],
            rollout_logprobs=old[:, 0],
            advantages=advantages,
            weights=torch.full((200,), 1 / 200),
            teacher_logprobs=teacher[:, 0],
            top_token_ids=ids,
            top_logprobs=top,
            policy_top_logprobs=old.gather(1, ids),
            policy_rest_logprobs=old.scatter(1, ids, -math.inf).logsumexp(1),
        )
        return objective(given, 10).loss.item(), gradient(objective, given, 10)

    assert found(TRRD.model_validate(settings | RAMP)) == found(GRPO())


def test_at_the_ends_of_alpha_there_is_no_normaliser() -> None:
    falling = TRRD(anchor="normalised", alpha=1.0, alpha_end=0.0, alpha_steps=2)
    given = place(1, [1])
    for step, is_none in ((0, True), (1, False), (2, True)):
        log_z = falling.log_z(given, step)
        assert log_z is not None
        assert (log_z.item() == 0) is is_none


def test_settings() -> None:
    objective = TRRD.model_validate({"kind": "trrd", "anchor": "normalised"})
    assert (objective.teacher_clamp, objective.top_k, objective.teacher_top_k) == (None, 64, 64)
    assert not list(objective.problems())
    assert TRRD.model_validate(objective.model_dump()) == objective
    plain = TRRD()
    assert (plain.teacher_clamp, plain.teacher_top_k, plain.log_z(place(0, [1]), 0)) == (1.0, 0, None)
    [clamped] = TRRD(anchor="normalised", teacher_clamp=1.0).problems()
    assert clamped.path == "teacher_clamp"
    assert "Write null" in clamped.advice
    [unused] = TRRD(top_k=8).problems()
    assert unused.path == "top_k"


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"anchor: normalised needs likely tokens"):
        TRRD(anchor="normalised")(batch(OLD[[0]], teacher_logprobs=TEACHER[[0]]), 0)


def test_alpha_goes_in_a_straight_line_over_the_stage() -> None:
    objective = TRRD(alpha=1.0, alpha_end=0.5, alpha_steps=4)
    assert objective.needs_teacher
    assert [objective.alpha_at(step) for step in (0, 1, 2, 4, 99)] == [1.0, 0.875, 0.75, 0.5, 0.5]
    given = batch(tokens(LN(0.5)), old_logprobs=tokens(LN(0.4)), teacher_logprobs=tokens(LN(0.8)))
    output = objective(given, 2)
    assert output.loss.item() == pytest.approx(-(1.25**0.75) * 0.625**0.25)
    assert output.statistics["anchor_alpha"].mean == 0.75
    assert objective(given, 0).loss.item() == pytest.approx(-1.25)
    still = TRRD(alpha=0.5)
    assert "anchor_alpha" not in still(given, 2).statistics
    [alone] = TRRD(alpha_end=0.2).problems()
    assert alone.path == "alpha_steps"
    changing = TRRD(anchor="normalised", alpha=1.0, alpha_end=0.5, alpha_steps=4)
    assert changing(place(1, [1, 2]), 4).statistics["anchor_log_z"].mean == pytest.approx(LN(0.8))
    assert changing(place(1, [1, 2]), 0).statistics["anchor_log_z"].mean == pytest.approx(0, abs=1e-12)


def test_beta_may_rise() -> None:
    objective = KDRL(beta=1e-3, beta_end=5e-3, beta_steps=4)
    assert [objective.beta_at(step) for step in (0, 2, 4, 9)] == pytest.approx([1e-3, 3e-3, 5e-3, 5e-3])
    assert not list(objective.problems())
    [both] = KDRL(beta=1e-3, beta_end=5e-3, beta_steps=4, beta_decay=1e-4).problems()
    assert both.path == "beta_decay"
