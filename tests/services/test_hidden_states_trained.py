"""log Z over the whole vocabulary, from a teacher's hidden states that the learner pulls."""

import asyncio
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed as dist
from shard_rows import PLAN, RESPONSES, experience
from teacher_faults import MODEL, engine, prompts, scored
from transformers import AutoModelForCausalLM

from rlad_core import schema
from rlad_core.assembly import plan_shards
from rlad_core.client.details import Details
from rlad_core.config import load, resolve_model
from rlad_core.forward import PACKED_ATTENTION, ResponseLogprobs
from rlad_core.objectives.anchor import log_normaliser
from rlad_core.packing import pack
from services.base.span_collector import SpanCollector
from services.learner.teacher_states import TeacherStates, teacher_head
from services.learner.trained_policy import TrainedPolicy
from services.learner.training_rows import TrainingRows
from services.teacher.scoring.torch_engine import TorchEngine

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


def test_a_teacher_that_is_waited_for_is_at_work_behind_the_learner(states: TeacherStates) -> None:
    """It answers no sooner than the learner waits for it."""
    collector = SpanCollector()

    def slow(sequences: pa.Table) -> pa.Table:
        for _ in range(600):
            if any(each.stage == "teacher" and not each.behind for each in collector.open()):
                return ask(sequences)
            time.sleep(0.1)
        raise TimeoutError("waited 60 s for the learner to wait")

    table = prompts()[0]
    parts: list[pa.Table | None] = [table.slice(0, 2), table.slice(2, 1)]
    for _ in TeacherStates(slow, states.head).normalisers(parts, 0.3, ()):
        pass
    spans = collector.take()
    collector.close()
    tokens = [int(schema.lengths(part.column("response_token_ids")).sum()) for part in parts if part]
    assert [(each.items, each.tokens) for each in spans if each.behind] == [(2, tokens[0]), (1, tokens[1])]
    waits = [each for each in spans if not each.behind]
    assert {each.stage for each in spans} == {"teacher"}
    assert [(each.items, each.tokens) for each in waits] == [(0, 0)] * 2


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
    assert not rows.old.has(members)
    rows.keep_old(members, logprobs.detach(), log_z)
    assert rows.old.has(members)
    # Of a later update, when the policy has changed: what the old one said.
    later = rows.token_batch(members, packed, logprobs - 1, None)
    torch.testing.assert_close(later.log_z, log_z)


def _update(out: str) -> None:
    """Two mini-batches of one step under each source, from the same policy; what both tell is written."""
    dist.init_process_group("gloo", init_method=f"file://{out}/rendezvous", rank=0, world_size=1)
    table = prompts()[0].slice(0, 8)
    vocabulary = teacher_head(MODEL, "float32", torch.device("cpu")).tokens
    whole = TorchEngine(
        MODEL, dtype="float32", max_model_len=1024, logits_memory_bytes=2**26, threads=1, tokens=vocabulary
    )
    details = asyncio.run(scored(whole, table, Details(top_k=vocabulary)))
    rows = [
        {
            **row,
            "group_id": f"p{place // 4}#0",
            "sample_index": place % 4,
            "prompt_id": f"p{place // 4}",
            "rollout_logprobs": [-1.0] * len(row["response_token_ids"]),
            "policy_versions": [0] * len(row["response_token_ids"]),
            "finish_reason": "stop",
            "response": "text",
            "task": "knights_knaves",
            "subset": "2_people",
            "reward": float(place % 2),
            "reward_parts": {"answer": float(place % 2)},
            "correct": place % 2 == 1,
            "verdict": "",
            "advantage": 2.0 * (place % 2) - 1,
            **{name: told[name] for name in ("teacher_logprobs", "top_token_ids", "top_logprobs")},
        }
        for place, (row, told) in enumerate(zip(table.to_pylist(), details.to_pylist(), strict=True))
    ]
    told = {}
    for source in ("top_k", "hidden"):
        stage = "stages=[{steps: 1, objective: {kind: trrd, anchor: normalised, alpha: 0.3, source: SOURCE}}]"
        config = load("kk-tiny-trrd", [stage.replace("SOURCE", source), "learner.warmup_steps=0"])
        device, objective = torch.device("cpu"), config.stages[0].objective
        states = TeacherStates(ask, teacher_head(MODEL, "float32", device)) if source == "hidden" else None
        policy = TrainedPolicy(config, POLICY, device, states)
        left_out = {"top_token_ids", "top_logprobs"} if source == "hidden" else set()
        experience = schema.build(
            schema.EXPERIENCE,
            [{name: value for name, value in row.items() if name not in left_out} for row in rows],
            tokenizer_fingerprint=schema.fingerprint_of(table),
        )
        [plan] = plan_shards(
            experience,
            groups=experience.column("group_id").to_pylist(),
            mini_batches=2,
            ranks=1,
            token_weights=objective.token_weights,
        )
        statistics = policy.train_on(TrainingRows(experience.take(plan.rows), plan), objective, 0)
        told[source] = {name: statistic.mean for name, statistic in statistics.items()}
    Path(out, "told.json").write_text(json.dumps(told))
    dist.destroy_process_group()


@pytest.mark.timeout(300)
def test_an_update_is_that_of_likely_tokens_where_those_are_all(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_update, args=(str(tmp_path),))
    process.start()
    process.join()
    assert process.exitcode == 0
    told = json.loads((tmp_path / "told.json").read_text())
    exact, likely = told["hidden"], told["top_k"]
    assert exact["anchor_log_z"] < -0.01
    for name in ("anchor_log_z", "loss", "gradient_norm", "ratio", "kl_to_old"):
        assert exact[name] == pytest.approx(likely[name], rel=1e-3, abs=1e-5), name
