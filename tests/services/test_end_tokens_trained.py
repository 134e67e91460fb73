"""End tokens as one outcome in the learner: what the packed pass gives, against a whole softmax."""

from typing import Any

import numpy as np
import pytest
import torch
from shard_rows import PLAN, PROMPTS, RESPONSES, experience
from transformers import AutoModelForCausalLM

from rlad_core import schema
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from services.learner.training_rows import TrainingRows

E = (7, 30, 41)


def _rows(**changes: Any) -> TrainingRows:
    table = experience()
    rows = table.to_pylist()
    for row in rows:
        row["teacher_end_logprobs"] = [-0.25] * len(row["response_token_ids"])
        row["finish_reason"] = "length" if row["sample_index"] == 1 else "stop"
    found = schema.build(schema.EXPERIENCE, rows, tokenizer_fingerprint=schema.fingerprint_of(table))
    return TrainingRows(found, PLAN, **changes)


@pytest.fixture(scope="module")
def model(tiny_model: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        tiny_model.path, dtype=torch.float64, attn_implementation=PACKED_ATTENTION
    )


def test_the_outcome_of_the_policy_and_its_gradient(model: Any, tiny_model: Any) -> None:
    rows = _rows(end_tokens=E)
    members = np.array([2, 0, 1])
    packed = rows.pack(members)
    module = ResponseLogprobs(model)
    logprobs, entropy = module(packed, with_entropy=True)
    batch = rows.token_batch(members, packed, logprobs, entropy)
    ends = batch.is_end
    assert ends is not None
    assert int(ends.sum()) == 2
    found = torch.autograd.grad(batch.policy_end_logprobs[ends].sum(), list(model.parameters()))

    plain = AutoModelForCausalLM.from_pretrained(
        tiny_model.path, dtype=torch.float64, attn_implementation="eager"
    )
    stopped = [row for row in members if rows._stopped[row]]
    whole = torch.stack([_sum_at_the_end(plain, PROMPTS[row] + RESPONSES[row]) for row in stopped])
    torch.testing.assert_close(
        batch.policy_end_logprobs[ends], whole, rtol=1e-6, atol=1e-6
    )  # eager attention has float32 in it
    wanted = torch.autograd.grad(whole.sum(), list(plain.parameters()))
    for mine, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-5, atol=1e-6)
    assert batch.entropy.shape == batch.policy_logprobs.shape


def _sum_at_the_end(plain: Any, sequence: list[int]) -> torch.Tensor:
    logits = plain(torch.tensor([sequence[:-1]])).logits[0, -1]
    return logits.log_softmax(-1)[list(E)].exp().sum().log()


def test_the_old_policys_outcome_is_noted_before_the_first_update(model: Any) -> None:
    rows, members = _rows(end_tokens=E), np.array([0, 1, 2])
    packed = rows.pack(members)
    logprobs, _ = ResponseLogprobs(model)(packed)
    first = rows.token_batch(members, packed, logprobs.float(), None)
    rows.keep_old(members, logprobs.detach().float())
    again = rows.token_batch(members, packed, logprobs.float() - 1, None)
    ends = again.is_end
    torch.testing.assert_close(again.old_end_logprobs[ends], first.policy_end_logprobs[ends].detach())
    torch.testing.assert_close(again.old_logprobs, first.policy_logprobs.detach())
    torch.testing.assert_close(again.policy_end_logprobs[ends], first.policy_end_logprobs[ends] - 1)


def test_without_the_teachers_sum_nothing_more_is_asked_for() -> None:
    rows = TrainingRows(experience(), PLAN, end_tokens=E)
    members = np.array([0, 1, 2])
    packed = rows.pack(members)
    assert packed.response_ids.numel() == rows.response_tokens
    logprobs = torch.full((rows.response_tokens,), -0.5, requires_grad=True)
    batch = rows.token_batch(members, packed, logprobs, None)
    assert batch.policy_logprobs is logprobs
    assert batch.policy_end_logprobs is None
