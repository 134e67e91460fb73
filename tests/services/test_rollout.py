"""Rollouts from real vLLM behind real Ray Serve: what comes back, what is refused, what cancelling frees."""

import time

import numpy as np
import pyarrow as pa
import pytest
import ray
from pydantic import ValidationError
from rollout_service import MAX_LENGTH, TOKENS, TOLERANCE, StartedRollouts, difference, prompts

from rlad_core import schema
from rlad_core.client.rollout_forms import RolloutLimits
from services.rollout.settings import RolloutArgs, SamplingSettings
from services.serve.temporary import FOLDER, session_folder

# The first test to want the engines waits for their start, about 30 s each on an idle core.
pytestmark = pytest.mark.timeout(900)

TRAINING = SamplingSettings(group_size=4, max_tokens=48, seed=3)


@pytest.fixture(scope="module")
def sampled(rollouts: StartedRollouts) -> pa.Table:
    return rollouts.generate(prompts(8), TRAINING)


@pytest.mark.slow
def test_logprobs_are_those_of_a_transformers_forward(rollouts: StartedRollouts, sampled: pa.Table) -> None:
    assert difference(rollouts.policy, sampled) < TOLERANCE


@pytest.mark.slow
def test_rows_that_are_no_tokens_are_never_sampled(rollouts: StartedRollouts) -> None:
    assert rollouts.policy.config.vocab_size == TOKENS + 40
    uniform = SamplingSettings(group_size=16, max_tokens=48, temperature=2.0, seed=1, training=False)
    sampled = rollouts.generate(prompts(4, prefix="padded"), uniform)
    ids = schema.flatten(sampled["response_token_ids"])[0]
    assert ids.size > 1000
    assert ids.max() < TOKENS


@pytest.mark.slow
def test_an_engines_sockets_are_in_the_folder_of_rays_session(rollouts: StartedRollouts) -> None:
    session = session_folder()
    assert session is not None
    assert any(path.is_socket() for path in (session / FOLDER).iterdir())


@pytest.mark.slow
def test_replicas_tell_a_new_controller_where_their_logs_are(rollouts: StartedRollouts) -> None:
    """Where this fails, Serve replaces all replicas when its controller was lost."""
    names = [each["name"] for each in ray.util.list_named_actors(all_namespaces=True)]
    replicas = [name for name in names if "RolloutService" in name]
    assert len(replicas) >= rollouts.num_replicas
    for name in replicas:
        *_, log = ray.get(ray.get_actor(name, namespace="serve").is_allocated.remote(), timeout=30)
        assert "RolloutService" in log


@pytest.mark.slow
def test_the_table_is_whole_and_in_order(sampled: pa.Table) -> None:
    schema.validate(sampled, schema.ROLLOUTS, vocab_size=TOKENS)
    assert sampled["group_id"].to_pylist() == [f"p{index}#0" for index in range(8) for _ in range(4)]
    assert sampled["sample_index"].to_pylist() == [0, 1, 2, 3] * 8
    assert sampled["rollout_logprobs"].type.value_type == pa.float32()


@pytest.mark.slow
def test_in_parts_they_are_the_same(rollouts: StartedRollouts, sampled: pa.Table) -> None:
    wanted = prompts(8).slice(2, 1)
    stream = rollouts.handle.options(stream=True).generate_in_parts.remote(wanted, TRAINING)
    parts = pa.concat_tables(list(stream)).sort_by("sample_index")
    whole = sampled.slice(8, 4)
    for column in ("group_id", "sample_index", "response_token_ids", "finish_reason", "response"):
        assert parts[column].to_pylist() == whole[column].to_pylist()
    logprobs = (schema.flatten(table["rollout_logprobs"])[0] for table in (parts, whole))
    np.testing.assert_allclose(*logprobs, atol=TOLERANCE)
    assert schema.fingerprint_of(parts) == schema.fingerprint_of(whole)


@pytest.mark.slow
def test_a_response_holds_its_end_token_exactly_when_the_policy_wrote_one(
    rollouts: StartedRollouts, tiny_model
) -> None:
    rows = rollouts.generate(prompts(16, prefix="end"), TRAINING).to_pylist()
    assert {row["finish_reason"] for row in rows} == {"stop", "length"}
    for row in rows:
        ids = row["response_token_ids"]
        if row["finish_reason"] == "stop":
            assert ids.index(tiny_model.end_token_id) == len(ids) - 1
        else:
            assert len(ids) == TRAINING.max_tokens
            assert tiny_model.end_token_id not in ids
        words = [f"w{token}" for token in ids if token > 2]
        assert row["response"].split() == words


@pytest.mark.slow
def test_a_seed_fixes_the_responses_whoever_samples_them(
    rollouts: StartedRollouts, sampled: pa.Table
) -> None:
    group = sampled.slice(4, 4)["response_token_ids"].to_pylist()
    for alone in rollouts.generate_everywhere(prompts(8).slice(1, 1), TRAINING):
        assert alone["response_token_ids"].to_pylist() == group
    assert len({tuple(response) for response in group}) == 4
    other = rollouts.generate(prompts(8).slice(1, 1), TRAINING.model_copy(update={"seed": 4}))
    assert other["response_token_ids"].to_pylist() != group


@pytest.mark.slow
def test_without_a_seed_responses_differ(rollouts: StartedRollouts) -> None:
    free = SamplingSettings(group_size=2, max_tokens=16)
    first, second = (rollouts.generate(prompts(1), free)["response_token_ids"].to_pylist() for _ in range(2))
    assert first != second


@pytest.mark.slow
@pytest.mark.parametrize(
    "evaluation",
    [
        SamplingSettings(group_size=1, max_tokens=24, temperature=0.0, training=False),
        SamplingSettings(group_size=4, max_tokens=24, temperature=0.6, top_p=0.95, training=False),
    ],
    ids=["greedy", "nucleus"],
)
def test_evaluation_reports_untruncated_logprobs_at_temperature_one(
    rollouts: StartedRollouts, evaluation: SamplingSettings
) -> None:
    assert difference(rollouts.policy, rollouts.generate(prompts(4), evaluation)) < TOLERANCE


@pytest.mark.slow
def test_more_responses_than_the_engine_holds_at_once(rollouts: StartedRollouts) -> None:
    many = rollouts.generate(prompts(40, prefix="many", length=100), TRAINING)
    assert len(many) == 160
    assert difference(rollouts.policy, many.take(np.arange(0, 160, 16))) < TOLERANCE


@pytest.mark.slow
def test_a_cancelled_call_frees_the_engine(rollouts: StartedRollouts) -> None:
    long = SamplingSettings(group_size=8, max_tokens=200, seed=0)
    call = rollouts.handle.generate.remote(prompts(32, prefix="cancel"), long)
    _wait_until(lambda: sum(rollouts.broadcast("unfinished")) > 0, "the responses to be in work")
    call.cancel()
    _wait_until(lambda: sum(rollouts.broadcast("unfinished")) == 0, "the engines to be free")


@pytest.mark.slow
def test_a_prompt_without_room_for_a_response_is_refused(rollouts: StartedRollouts) -> None:
    with pytest.raises(ValueError, match=f"group 'p0#0' has {MAX_LENGTH} tokens"):
        rollouts.generate(prompts(1, length=MAX_LENGTH), TRAINING)


@pytest.mark.slow
def test_prompts_of_another_tokenizer_are_refused(rollouts: StartedRollouts) -> None:
    foreign = schema.tokenizer_fingerprint({"yes": 0, "no": 1})
    table = prompts(1).replace_schema_metadata({b"rlad.tokenizer": foreign.encode()})
    with pytest.raises(ValueError, match="made with tokenizer"):
        rollouts.generate(table, TRAINING)


@pytest.mark.parametrize("setting", [{"temperature": 0.6}, {"top_p": 0.95}, {"top_k": 20}])
def test_training_refuses_to_sample_from_another_distribution(setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=f"{next(iter(setting))}: .* refused for training"):
        SamplingSettings(group_size=8, max_tokens=16, **setting)
    SamplingSettings(group_size=8, max_tokens=16, training=False, **setting)


def test_a_greedy_group_is_refused() -> None:
    with pytest.raises(ValidationError, match="8 equal responses"):
        SamplingSettings(group_size=8, max_tokens=16, temperature=0, training=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"transfer": "nccl"}, "needs GPUs"),
        ({"num_gpus": 1, "tensor_parallel_size": 2}, "as many num_gpus"),
        ({"modle": "x"}, "modle"),
    ],
)
def test_arguments_that_cannot_work_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RolloutArgs(**{"model": "m", **arguments})


def _wait_until(condition, what: str, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s for {what}"
        time.sleep(0.05)


@pytest.mark.slow
def test_what_the_engine_does_not_take_is_the_request_s_fault(rollouts: StartedRollouts) -> None:
    most = RolloutLimits().max_top_k
    few = SamplingSettings(group_size=1, max_tokens=2, seed=1)
    told = rollouts.handle.generate.remote(prompts(1), few, top_tokens=most).result(timeout_s=120)
    assert len(told["rollout_top_token_ids"][0]) == most * len(told["response_token_ids"][0])
    with pytest.raises(ValueError, match=f"vLLM does not take the request: .*{most + 1}.*{most}"):
        rollouts.handle.generate.remote(prompts(1), few, top_tokens=most + 1).result(timeout_s=120)
