"""The teacher's likeliest tokens in the learner: what the packed pass gives, against a whole softmax."""

from typing import Any

import numpy as np
import pytest
import torch
from shard_rows import PLAN, PROMPTS, RESPONSES, experience
from transformers import AutoModelForCausalLM

from rlad_core import schema
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.objectives.anchor import log_normaliser
from rlad_core.objectives.trrd import TRRD
from services.learner.training_rows import TrainingRows

E = (7, 30)
K = 4


@pytest.fixture(scope="module")
def model(tiny_model: Any) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        tiny_model.path, dtype=torch.float64, attn_implementation=PACKED_ATTENTION
    )


@pytest.fixture(scope="module")
def teacher(model: Any) -> list[torch.Tensor]:
    """Log-probs of all tokens at the places of each response."""
    generator, size = torch.Generator().manual_seed(5), model.config.vocab_size
    return [(3 * torch.randn(len(each), size, generator=generator)).log_softmax(1) for each in RESPONSES]


def _rows(teacher: list[torch.Tensor], k: int, *, ends: bool) -> TrainingRows:
    rows = experience().to_pylist()
    for row, whole in zip(rows, teacher, strict=True):
        top = whole.topk(k, dim=1)
        row["top_token_ids"], row["top_logprobs"] = (
            top.indices.flatten().tolist(),
            top.values.flatten().tolist(),
        )
        if ends:
            row["teacher_end_logprobs"] = whole[:, list(E)].logsumexp(1).tolist()
    fingerprint = schema.fingerprint_of(experience())
    found = schema.build(schema.EXPERIENCE, rows, tokenizer_fingerprint=fingerprint)
    return TrainingRows(found, PLAN, E if ends else ())


def _whole(tiny_model: Any, members: list[int]) -> tuple[Any, torch.Tensor]:
    """Log-softmax at each place of the responses, by the model's own forward pass."""
    plain = AutoModelForCausalLM.from_pretrained(
        tiny_model.path, dtype=torch.float64, attn_implementation="eager"
    )
    told = []
    for row in members:
        sequence, tokens = PROMPTS[row] + RESPONSES[row], len(RESPONSES[row])
        told.append(plain(torch.tensor([sequence[:-1]])).logits[0, -tokens:].log_softmax(-1))
    return plain, torch.cat(told)


@pytest.mark.parametrize("ends", [False, True], ids=["each end token apart", "end tokens as one outcome"])
def test_values_and_gradient(ends: bool, model: Any, tiny_model: Any, teacher: list[torch.Tensor]) -> None:
    rows, members = _rows(teacher, K, ends=ends), [2, 0, 1]
    packed = rows.pack(np.array(members))
    logprobs, entropy = ResponseLogprobs(model)(packed, with_entropy=True)
    batch = rows.token_batch(np.array(members), packed, logprobs, entropy)
    plain, whole = _whole(tiny_model, members)
    ids = torch.cat([teacher[row].topk(K, dim=1).indices for row in members])
    sampled = torch.tensor([token for row in members for token in RESPONSES[row]])
    close = {"rtol": 1e-6, "atol": 1e-6}  # eager attention has float32 in it
    torch.testing.assert_close(batch.policy_top_logprobs, whole.gather(1, ids), **close)
    torch.testing.assert_close(batch.policy_logprobs, whole.gather(1, sampled[:, None])[:, 0], **close)
    assert batch.top_token_ids.tolist() == ids.tolist()
    together = whole[:, list(E)].logsumexp(1)
    named = torch.cat([ids, torch.tensor(E).expand(len(ids), -1)], dim=1) if ends else ids
    rest = whole.scatter(1, named, -torch.inf).logsumexp(1)
    torch.testing.assert_close(batch.policy_rest_logprobs, rest, **close)
    if ends:
        torch.testing.assert_close(batch.policy_end_logprobs, together, **close)
        assert batch.top_is_end.tolist() == [[token in E for token in place] for place in ids.tolist()]
    else:
        assert batch.policy_end_logprobs is None
    assert batch.entropy.shape == batch.policy_logprobs.shape

    upstream = torch.linspace(-1, 1, ids.numel(), dtype=torch.float64).view(ids.shape)
    mine = (upstream * batch.policy_top_logprobs).sum() + batch.policy_logprobs.sum()
    reference = (upstream * whole.gather(1, ids)).sum() + whole.gather(1, sampled[:, None]).sum()
    mine, reference = mine + 3 * batch.policy_rest_logprobs.sum(), reference + 3 * rest.sum()
    if ends:
        mine, reference = mine + batch.policy_end_logprobs.sum(), reference + together.sum()
    for found, wanted in zip(
        torch.autograd.grad(mine, list(model.parameters())),
        torch.autograd.grad(reference, list(plain.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_z_of_the_whole_vocabulary_is_exact_and_kept_for_later_updates(
    model: Any, tiny_model: Any, teacher: list[torch.Tensor]
) -> None:
    members = np.array([0, 1, 2])
    _, whole = _whole(tiny_model, [0, 1, 2])
    vocabulary = whole.shape[1]
    exact = log_normaliser(whole.detach(), torch.cat(teacher).double(), 0.5)
    objective = TRRD(anchor="normalised", top_k=vocabulary)
    rows = _rows(teacher, vocabulary, ends=False)
    packed = rows.pack(members)
    logprobs, _ = ResponseLogprobs(model)(packed)
    first = rows.token_batch(members, packed, logprobs.detach(), None)
    z = objective.log_z(first, 0)
    torch.testing.assert_close(z, exact, rtol=0, atol=1e-5)
    fewer = _rows(teacher, K, ends=False)
    packed = fewer.pack(members)
    told = ResponseLogprobs(model)(packed)[0].detach()
    wider = objective.log_z(fewer.token_batch(members, packed, told, None), 0)
    assert (wider >= z - 1e-6).all()
    assert (wider <= 0).all()

    rows.keep_old(members, logprobs.detach(), z)
    again = rows.token_batch(
        np.array([2, 0]), rows.pack(np.array([2, 0])), told_of(rows, [2, 0], logprobs), None
    )
    torch.testing.assert_close(again.log_z, torch.cat([z[4:], z[:3]]))
    torch.testing.assert_close(again.old_logprobs, torch.cat([logprobs[4:, 0], logprobs[:3, 0]]).detach())


def told_of(rows: TrainingRows, members: list[int], logprobs: torch.Tensor) -> torch.Tensor:
    """What a later pass would tell of these rows."""
    parts = logprobs.split(rows.response_lengths.tolist())
    return torch.cat([parts[row] for row in members]) - 1
