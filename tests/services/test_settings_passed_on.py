"""Settings that go on to an engine, a sampler or the optimizer as they are."""

import math

import pytest
from pydantic import ValidationError

from rlad_core.config import ConfigError, RunConfig, load
from services.learner.learning_rate import learning_rate
from services.rollout.settings import RolloutArgs, SamplingSettings, engine_args
from services.run.applications import demonstrator_args
from services.teacher.settings import TeacherArgs


def read(*overrides: str) -> RunConfig:
    return load("kk-tiny-trrd", ["stages.0.steps=10", "learner.warmup_steps=0", *overrides])


def _rate(step: int, *overrides: str) -> float:
    return learning_rate(read(*overrides), step)


def test_schedules_end_at_min_lr() -> None:
    settings = ("learner.lr=1e-4", "learner.min_lr=1e-5")
    linear = [_rate(step, *settings, "learner.schedule=linear") for step in (0, 5, 9)]
    assert linear == pytest.approx([1e-4, 1e-5 + 9e-5 * 0.5, 1e-5 + 9e-5 * 0.1])
    cosine = [
        _rate(step, *settings, "learner.schedule=cosine", "learner.warmup_steps=2") for step in (0, 2, 6)
    ]
    assert cosine == pytest.approx([0.5e-4, 1e-4, 1e-5 + 9e-5 * 0.5 * (1 + math.cos(math.pi / 2))])
    # Without it they fall to 0 as they always did, to the bit.
    assert _rate(3, "learner.lr=1e-4", "learner.schedule=linear") == 1e-4 * (1 - 0.3)


@pytest.mark.parametrize("gpus", [0, 1])
def test_engine_args_are_vllms_last_word(gpus: int) -> None:
    args = RolloutArgs(
        model="owner/name",
        dtype="float32",
        num_gpus=gpus,
        engine_args={"enforce_eager": False, "block_size": 64},
    )
    told = engine_args(args, "owner/name", 256)
    assert (told["enforce_eager"], told["block_size"], told["max_model_len"]) == (False, 64, 256)
    with pytest.raises(ValidationError, match="max_num_seqs, which is not passed on: write max_num_seqs"):
        RolloutArgs(model="owner/name", engine_args={"max_num_seqs": 3})
    with pytest.raises(ValidationError, match=r"engine_args: .*are vLLM's; write engine: vllm"):
        TeacherArgs(model="owner/name", engine_args={"quantization": "fp8"})


def test_any_seed_becomes_one_that_the_engine_takes() -> None:
    args = RolloutArgs(model="owner/name", dtype="float32", seed=2**32 + 7)
    assert engine_args(args, "owner/name", 256)["seed"] == 7


def test_an_engine_that_sleeps_is_told_so_and_needs_a_gpu() -> None:
    args = RolloutArgs(model="owner/name", dtype="float32", num_gpus=0.5, sleep=True)
    assert engine_args(args, "owner/name", 256)["enable_sleep_mode"] is True
    with pytest.raises(ValidationError, match="sleep: vLLM has it on GPUs alone"):
        RolloutArgs(model="owner/name", sleep=True)
    with pytest.raises(ValidationError, match="sleep: vLLM has it on GPUs alone"):
        TeacherArgs(model="owner/name", engine="vllm", sleep=True)
    with pytest.raises(ValidationError, match="enable_sleep_mode, which is not passed on: write sleep"):
        RolloutArgs(model="owner/name", engine_args={"enable_sleep_mode": True})
    with pytest.raises(ConfigError, match=r"rollout.sleep .*is vLLM's, which has it on GPUs alone"):
        read("rollout.sleep=true")
    with pytest.raises(ConfigError, match=r"teacher.sleep .*Write false, or engine: torch"):
        read("teacher.sleep=true", "teacher.engine=vllm")
    with pytest.raises(ConfigError, match=r"rollout.max_staleness \(1\): .*teacher.sleep has them asleep"):
        read("teacher.sleep=true", "rollout.max_staleness=1")
    assert read("teacher.sleep=true").scoring_services["teacher"].sleep


def test_a_demonstrator_has_the_teachers_engine_and_the_policys_prompts() -> None:
    config = read(
        "teacher.engine=vllm",
        "teacher.engine_args={block_size: 16}",
        "rollout.engine_args={block_size: 64}",
        "policy.chat_template='{{ messages }}'",
        "policy.chat_template_kwargs={enable_thinking: false}",
    )
    [teacher] = config.served_teachers.values()
    args = demonstrator_args(config, teacher)
    assert args.engine_args == {"block_size": 16}
    policy = RolloutArgs.of_run(config, "owner/policy")
    assert policy.engine_args == {"block_size": 64}
    assert (policy.chat.template, policy.chat.options) == ("{{ messages }}", {"enable_thinking": False})


@pytest.mark.long  # vLLM is imported
def test_the_tokens_that_end_a_response_are_all_that_do() -> None:
    from services.rollout.engine import _sampling_params

    ours = _sampling_params(SamplingSettings(group_size=1, max_tokens=4, stop_token_ids=(3, 1)), None, 0)
    assert (ours.stop_token_ids, ours.ignore_eos) == ([3, 1], True)
    models = _sampling_params(SamplingSettings(group_size=1, max_tokens=4), None, 0)
    assert (models.stop_token_ids, models.ignore_eos) == ([], False)
