"""log Z over the whole vocabulary, from a teacher's hidden states that the learner pulls."""

import asyncio

import numpy as np
import pyarrow as pa
import pytest
import torch
from teacher_faults import MODEL, engine, prompts, scored
from test_training_rows import PLAN, RESPONSES, experience
from transformers import AutoModelForCausalLM

from rlad_core.batching import pack
from rlad_core.client.details import Details
from rlad_core.config import resolve_model
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.objectives.anchor import log_normaliser
from services.learner.teacher_states import TeacherStates, teacher_head
from services.learner.training_rows import TrainingRows

POLICY = resolve_model("rlad:kk-student")


def ask(sequences: pa.Table) -> pa.Table:
    """A real engine in this process."""
    return asyncio.run(scored(engine(MODEL), sequences, Details(hidden="float32")))


@pytest.fixture(scope="module")
def states() -> TeacherStates:
    return TeacherStates(ask, teacher_head(MODEL, "float32", torch.device("cpu")))


def whole(folder: str, prompt: list[int], response: list[int]) -> torch.Tensor:
    """Log-probs of all tokens at each place of a response, by transformers in float64."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)
    with torch.no_grad():
        logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(dim=1)


def test_it_is_the_sum_in_float64_over_all_tokens_of_both_models(states: TeacherStates) -> None:
    table = prompts()[0].slice(0, 3)
    rows = table.to_pylist()
    parts: list[pa.Table | None] = [table.slice(0, 2), None, table.slice(2, 1)]
    policy = ResponseLogprobs(
        AutoModelForCausalLM.from_pretrained(POLICY, attn_implementation=PACKED_ATTENTION),
        chunk_size=7,
        tokens=(tokens := states.head.tokens),
    )
    found = []
    for part, normaliser in zip(parts, states.normalisers(parts, 0.3, ()), strict=True):
        assert (normaliser is None) == (part is None)
        if part is None or normaliser is None:
            continue
        pairs = [
            (np.array(row["prompt_token_ids"]), np.array(row["response_token_ids"]))
            for row in part.to_pylist()
        ]
        with torch.no_grad():
            policy(pack(pairs), beside=normaliser)
        found.append(normaliser.log_z)
    exact = torch.cat(
        [
            log_normaliser(
                *(
                    whole(folder, row["prompt_token_ids"], row["response_token_ids"])[:, :tokens].log_softmax(
                        1
                    )
                    for folder in (POLICY, MODEL)
                ),
                0.3,
            )
            for row in rows
        ]
    )
    torch.testing.assert_close(torch.cat(found).double(), exact, atol=1e-5, rtol=0)
    assert exact.min() < -0.1  # they do differ


def test_the_head_is_the_models_own(states: TeacherStates) -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL)
    assert torch.equal(states.head.weight, model.get_output_embeddings().weight)
    half = teacher_head(MODEL, "bfloat16", torch.device("cpu"))
    assert half.num_bytes * 2 == states.head.num_bytes


def test_states_of_others_are_refused(states: TeacherStates) -> None:
    table = prompts()[0]
    wrong = TeacherStates(lambda sequences: ask(table.slice(1, 1)), states.head)
    with pytest.raises(RuntimeError, match="other sequences"):
        list(wrong.normalisers([table.slice(0, 1)], 0.5, ()))


def test_rows_give_their_sequences_in_the_order_of_a_micro_batch_and_keep_what_was_summed() -> None:
    rows, members = TrainingRows(experience(), PLAN), np.array([2, 0])
    asked = rows.sequences(members)
    assert asked.column("sequence_id").to_pylist() == ["q#0/0", "p#0/0"]
    assert asked.column("response_token_ids").to_pylist() == [RESPONSES[2], RESPONSES[0]]
    packed = rows.pack(members)
    logprobs = torch.full((packed.response_ids.numel(),), -1.0, requires_grad=True)
    log_z = torch.linspace(-1, -0.1, logprobs.numel())
    first = rows.token_batch(members, packed, logprobs, None, log_z)
    torch.testing.assert_close(first.log_z, log_z)
    assert not rows.is_kept(members)
    rows.keep_old(members, logprobs.detach(), log_z)
    assert rows.is_kept(members)
    # Of a later update, when the policy has changed: what the old one said.
    later = rows.token_batch(members, packed, logprobs - 1, None)
    torch.testing.assert_close(later.log_z, log_z)
