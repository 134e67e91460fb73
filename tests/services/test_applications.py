"""What a recipe says reaches the services."""

from rlad_core.client.forms import TeacherLimits
from rlad_core.config import (
    ReplicaSettings,
    RolloutConfig,
    RolloutEngine,
    RunConfig,
    ServeTeacher,
    TeacherEngine,
    VerifierSettings,
    load,
)
from services.rollout.settings import RolloutArgs
from services.run.applications import application, demonstrator_args, service_args
from services.teacher.settings import TeacherArgs
from services.verifier.settings import VerifierArgs

TEACHER = {
    "model": "rlad:kk-teacher",
    "engine": "vllm",
    "dtype": "bfloat16",
    "num_replicas": 2,
    "num_cpus": 3,
    "num_gpus": 4,
    "node_labels": {"rlad-role": "teacher"},
    "tensor_parallel_size": 2,
    "pipeline_parallel_size": 2,
    "threads": 5,
    "max_tokens_per_batch": 4321,
    "kv_cache_memory_gib": 1.25,
    "gpu_memory_utilization": 0.75,
    "timeout_s": 1234.0,
    "engine_args": {"seed": 7},
    "sleep": True,
}


OF_THE_RUN = {"kind", "tasks", "verify", "verify_one_in", "verify_tolerance"} | {
    "weight",
    "weight_column",
    "prefix",
    "prefix_tokens",
}
"""Settings of a teacher that no replica needs to know."""


def recipe(*overrides: str) -> RunConfig:
    return load("kk-tiny-trrd", overrides)


def test_every_setting_of_a_teacher_arrives() -> None:
    settings = ServeTeacher.model_validate(TEACHER)
    assert set(TEACHER) == set(ServeTeacher.model_fields) - OF_THE_RUN, "a setting is new: test it here"
    args = TeacherArgs.of_run(recipe(), settings, settings.timeout_s)
    told = args.model_dump() | {"timeout_s": args.limits.timeout_s}
    assert {name: told[name] for name in TEACHER} == TEACHER


def test_a_setting_that_recipe_and_service_share_is_declared_once() -> None:
    pairs = (
        (RolloutConfig, RolloutArgs, RolloutEngine),
        (ServeTeacher, TeacherArgs, TeacherEngine),
        (VerifierSettings, VerifierArgs, VerifierSettings),
    )
    for section, args, shared in pairs:
        assert issubclass(section, shared)
        assert issubclass(args, shared)
        common = set(section.model_fields) & set(args.model_fields) - {"timeout_s"}
        assert common <= set(shared.model_fields) | set(ReplicaSettings.model_fields)
        # Nor is it told again: neither class declares anew what the other has too.
        assert not common & (
            set(vars(section).get("__annotations__", ())) if section is not shared else set()
        )
        assert not common & set(vars(args).get("__annotations__", ()))


def test_every_setting_of_an_engine_that_samples_arrives() -> None:
    config = recipe(
        "rollout.max_num_seqs=7", "rollout.threads=3", "rollout.timeout_s=99", "policy.dtype=bfloat16"
    )
    args = RolloutArgs.of_run(config, "m", policy_store="store")
    assert (args.max_num_seqs, args.threads, args.timeout_s, args.dtype) == (7, 3, 99.0, "bfloat16")
    assert (args.run, args.model, args.policy_store, args.max_model_len) == (
        "kk-tiny-trrd",
        "m",
        "store",
        144,
    )


def test_a_run_is_never_refused_by_its_own_teacher() -> None:
    config = recipe("rollout.prompts_per_step=512", "rollout.group_size=8192", "policy.max_length=1024")
    assert isinstance(config.teacher, ServeTeacher)
    limits = TeacherArgs.of_run(config, config.teacher, 600.0).limits
    assert limits.max_sequences_per_request >= 8192
    assert limits.max_tokens_per_request >= 8192 * 1024
    assert limits.max_queued_tokens >= 512 * 8192 * 1024
    small = recipe()
    assert isinstance(small.teacher, ServeTeacher)
    assert TeacherArgs.of_run(small, small.teacher, 600.0).limits == TeacherLimits()


def test_a_teacher_that_demonstrates_has_its_own_resources_and_no_new_versions() -> None:
    config = recipe("weights.transfer=nccl", "rollout.num_gpus=1", "learner.num_gpus=1")
    on_one_node = TEACHER | {"num_gpus": 2, "pipeline_parallel_size": 1}
    args = demonstrator_args(config, ServeTeacher.model_validate(on_one_node))
    assert (args.num_gpus, args.tensor_parallel_size, args.dtype) == (2, 2, "bfloat16")
    assert (args.policy_store, args.transfer, args.sleep) == (None, "object_store", True)
    assert RolloutArgs.of_run(config, "m").num_gpus == 1


def test_without_gpus_of_its_own_a_replica_sees_none() -> None:
    def visible(app: str, *overrides: str) -> str | None:
        built = application(service_args(recipe(*overrides), "rlad:kk-student")[f"kk-tiny-trrd-{app}"])
        [args] = built._bound_deployment.init_args
        assert "runtime_env" not in built._bound_deployment.ray_actor_options
        return args.environment.get("CUDA_VISIBLE_DEVICES")

    assert visible("teacher") == visible("rollout") == visible("verifier") == ""
    assert visible("teacher", "teacher.num_gpus=0.5") is None
